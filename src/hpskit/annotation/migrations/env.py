"""Run migrations on the connection that `hpskit.annotation.store` gives."""

from alembic import context

from hpskit.annotation.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
