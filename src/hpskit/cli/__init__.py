"""The command line: one small module per command group, no logic of its own.

Results go to standard output, progress and warnings to standard error. Exit status: 0 done, 1 a data set that was
inspected is not sound, 2 an error of input, model or output (one line says which), 3 images are missing, 130
interrupted.
"""

from __future__ import annotations

import inspect
import io
import os
import sys
import warnings
from typing import get_type_hints

import typer

from hpskit import __version__
from hpskit.cli import (
    annotate,
    benchmark,
    cluster,
    compare,
    data,
    evaluate,
    images,
    models,
    prompts,
    reward,
    score,
    serve,
    study,
    train,
)
from hpskit.cli.options import WithRecipe, echo
from hpskit.errors import HpskitError, InputError

_NO_MEMORY = "this machine: has no memory left for it; close other programs, or lower --batch-size and --workers"

app = typer.Typer(
    name="hpskit",
    help="Human preference for generated images, measurable.",
    epilog='First result: hpskit score "a cat with two horns on its head" a.jpg b.png',
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("score")(score.score)
app.command("evaluate")(evaluate.evaluate)
app.command("agreement")(evaluate.agreement)
app.command("compare")(compare.compare)
app.command("train", cls=WithRecipe)(train.train)
app.command("ablate", cls=WithRecipe)(train.ablate)
app.command("export")(models.export)
app.command("serve")(serve.serve)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(prompts.app, name="prompts")
app.add_typer(images.app, name="images")
app.add_typer(annotate.app, name="annotate")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(study.app, name="study")
app.add_typer(reward.app, name="reward")
app.add_typer(cluster.app, name="cluster")


def _flowing(text: str) -> str:
    """The text of a command's help with the lines of a paragraph joined; typer keeps them, at the width of the source.

    A paragraph that begins with a line of backspace alone, which is examples, keeps its lines.
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p.removeprefix("\b\n") if p.startswith("\b") else " ".join(p.split()) for p in paragraphs)


_GROUPS = (models, data, prompts, images, annotate, benchmark, study, reward, cluster)
for _group in (app, *(module.app for module in _GROUPS)):
    for _command in _group.registered_commands:
        assert _command.callback is not None
        _command.help = _flowing(_command.callback.__doc__ or "")
        _command.callback.__annotations__ = _hints = get_type_hints(_command.callback, include_extras=True)
        for _option in (option for hint in _hints.values() for option in getattr(hint, "__metadata__", ())):
            _option.readable = False  # whoever reads a path says in one line that it may not be read


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hpskit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _wanted: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    echo(f"warning: {message}", err=True)


def _check_arguments() -> None:
    """See that the arguments, but for names of files that are there, are text that can be written into results.

    Raises:
        InputError: one has bytes that are not UTF-8.
    """
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            if not os.path.lexists(argument):
                raise InputError(argument, "is not UTF-8 text", cure="write it in UTF-8") from error


def _notes(ended: BaseException) -> list[str]:
    """Return what those who were interrupted have to say: how the job goes on."""
    cause: BaseException | None = ended
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return [*dict.fromkeys(getattr(cause, "__notes__", ()))]  # a stage and its ledger say the same


def main() -> None:
    """Entry point: run a command; a known error becomes one line and exit status 2."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: large tensors in large pages, docs/performance.md
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_arguments()
        app()
    except (HpskitError, MemoryError) as error:
        echo(f"error: {error}" if isinstance(error, HpskitError) else f"error: {_NO_MEMORY}", err=True)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == 130:  # typer has caught Ctrl-C, and says nothing
            echo("; ".join(["interrupted", *_notes(ended)]), err=True)
        raise
    except BrokenPipeError:  # the reader of our output has seen enough, as in `hpskit … | head`
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:  # only that of a stream has no name
        if error.errno is None:
            raise
        where = "standard output" if error.filename is None else str(error.filename)
        echo(f"error: {where}: cannot be read or written ({error.strerror}); check the path or make room", err=True)
        sys.exit(2)
