"""The entry point: the command line behind a guard, so that Ctrl-C is one line from the first moment on."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the command line and run it; Ctrl-C ends both with one line and status 130."""
    try:
        from hpskit.cli import main as run

        run()
    except BaseException as error:  # a module in C turns the KeyboardInterrupt in its import into an ImportError
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is None or isinstance(error, SystemExit):
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
