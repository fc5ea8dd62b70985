"""`hpskit annotate …`: people rank images on a page of this machine's, and the rankings become a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hpskit.cli.options import AllowOutside, Json, echo, echo_json, new_table, progress_bar, show, step_progress
from hpskit.errors import InputError, need

if TYPE_CHECKING:
    from hpskit.annotation.web.serving import Opened

app = typer.Typer(help="Let people rank images, watch how well they agree, export the data.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="PROJECT", help="Folder of the project.")]
Database = Annotated[
    str, typer.Option(help="postgresql://USER@HOST/NAME, for several servers.  \\[default: SQLite in the project]")
]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network of this machine.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any that is free.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")]
Who = Annotated[str, typer.Argument(metavar="NAME", help="Name or pseudonym.")]


_EXTRA = ("alembic", "fastapi", "itsdangerous", "python_multipart", "sqlalchemy", "uvicorn")


@app.callback()
def _needs_the_extra() -> None:
    for module in () if {"-h", "--help"} & set(sys.argv) else _EXTRA:
        need(module, "hpskit annotate", "annotate")


def _open(folder: Path, database: str) -> Opened:
    from hpskit.annotation.web.serving import opened

    return opened(folder, database)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the project; it is made anew.")] = Path("annotate-demo"),
    host: Host = "127.0.0.1",
    port: Port = 8100,
    open_: Open = True,
) -> None:
    """Try it: a project with painted images, open in your browser, with nothing to set up.

    \b
    hpskit annotate demo
    """
    from hpskit.annotation.demo import make_demo

    if not (out / "project.toml").exists():
        with progress_bar() as bar:
            make_demo(out, step_progress(bar))
    _serve(_open(out, ""), host, port, open_, ["you"])


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="PROJECT", help="New folder for the project.")],
    images: Annotated[
        Path, typer.Option(help="Folder of `hpskit images generate`, or a data set with or without rankings.")
    ],
    name: Annotated[str, typer.Option(help="What annotators see as the title.  \\[default: name of the folder]")] = "",
    overlap: Annotated[int, typer.Option(min=1, help="Different people for each task.")] = 10,
    train_share: Annotated[float, typer.Option(min=0, max=1, help="Share of tasks that are for training.")] = 0.0,
    train_overlap: Annotated[int, typer.Option(min=1, help="Different people for each of those.")] = 1,
    gold: Annotated[
        Path | None, typer.Option(help="Data set ranked by experts: first the qualification, then hidden checks.")
    ] = None,
    mode: Annotated[Literal["rank", "pair"], typer.Option(help="All images at once, or every pair of them.")] = "rank",
    seed: Annotated[int, typer.Option(min=0, help="Decides orders on the page and the draw of --train-share.")] = 0,
    database: Database = "",
    allow_outside: AllowOutside = False,
    as_json: Json = False,
) -> None:
    """Make a project: its images, stripped of everything that tells where they are from, and its tasks.

    PROJECT/project.toml has all settings: ties, ratings, flags, skips, pay, panels. PROJECT/instructions.md and
    consent.md, if you write them, are shown to annotators.

    \b
    hpskit annotate init project --images images/ --overlap 10
    hpskit annotate init project --images images/ --gold gold.jsonl --train-share 0.9
    """
    from dataclasses import asdict

    from hpskit.annotation.project import Settings
    from hpskit.annotation.setup import make_project, open_source
    from hpskit.schema import parse

    values = {"name": name or folder.resolve().name, "overlap": overlap, "train_overlap": train_overlap}
    settings = parse(Settings, {**values, "mode": mode, "seed": seed}, "options")
    source = open_source(images, allow_outside=allow_outside)
    experts = open_source(gold, allow_outside=allow_outside) if gold is not None else None
    with progress_bar() as bar:
        made = make_project(
            folder,
            settings,
            source,
            gold=experts,
            train_share=train_share,
            database=database,
            progress=step_progress(bar),
        )
    if as_json:
        return echo_json(asdict(made))
    echo(f"{made.tasks:,} tasks with {made.images:,} images, {made.votes:,} votes wanted")
    if made.practice or made.gold:
        echo(f"{made.practice} tasks of the qualification, {made.gold} hidden checks")
    if made.identical:
        echo(f"note: {len(made.identical)} tasks hold two equal images, {made.identical[0]!r} for one", err=True)
    return echo(f"next: hpskit annotate serve {folder}, and hpskit annotate invite {folder} NAME…")


@app.command()
def serve(
    folder: Folder, host: Host = "127.0.0.1", port: Port = 8100, database: Database = "", open_: Open = False
) -> None:
    """Serve a project until Ctrl-C; the link of the researcher is printed at the start.

    \b
    hpskit annotate serve project
    hpskit annotate serve project --host 0.0.0.0 --database postgresql://hpskit@db/votes
    """
    _serve(_open(folder, database), host, port, open_, [])


def _serve(found: Opened, host: str, port: int, open_: bool, names: list[str]) -> None:
    import webbrowser

    from hpskit.annotation import people
    from hpskit.annotation.web.serving import researcher_link, serve

    def said(base: str) -> None:
        links = people.invite(found.store, names, who="demo")
        for name, token in links.items():
            echo(f"{name}: {base}/join/{token}")
        lead = researcher_link(found, base)
        echo(f"researcher: {lead}")
        echo(f"invite others with: hpskit annotate invite {found.project.folder} NAME --at {base}")
        echo("Ctrl-C ends the server; nothing is lost.")
        if open_:
            webbrowser.open(f"{base}/join/{next(iter(links.values()))}" if links else lead)

    serve(found, host=host, port=port, said=said)


@app.command()
def invite(
    folder: Folder,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Whom to invite; each gets a link.")],
    role: Annotated[
        Literal["annotator", "inspector", "researcher"], typer.Option(help="What they may do.")
    ] = "annotator",
    at: Annotated[
        str, typer.Option(metavar="URL", help="Address of the server, as people reach it.")
    ] = "http://127.0.0.1:8100",
    cap: Annotated[int | None, typer.Option(min=1, help="The most tasks of each of them.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Make a link for each person; whoever has the link is that person. Asked again, the link is made anew.

    \b
    hpskit annotate invite project ann ben --at https://rank.example.org
    hpskit annotate invite project iris --role inspector
    """
    from hpskit.annotation import people

    made = people.invite(_open(folder, database).store, names, role=role, cap=cap)
    links = {name: f"{at.rstrip('/')}/join/{token}" for name, token in made.items()}
    if as_json:
        return echo_json(links)
    return echo(*(f"{name}: {link}" for name, link in links.items()))


@app.command()
def status(folder: Folder, database: Database = "", as_json: Json = False) -> None:
    """Show how far a project is, and how everybody does.

    \b
    hpskit annotate status project
    """
    from dataclasses import asdict

    from hpskit.annotation.quality import standing
    from hpskit.annotation.web.dashboard import progress

    found = _open(folder, database)
    with found.store.read() as connection:
        counts = progress(found.store, connection, found.store.now())
    people = standing(found.store, found.project.settings)
    if as_json:
        return echo_json({"progress": asdict(counts), "people": [asdict(one) for one in people]})
    echo(
        f"{counts.done:,} of {counts.wanted:,} votes, {counts.finished:,} of {counts.tasks:,} tasks finished, "
        f"{counts.held:,} being worked on"
    )
    table = new_table(
        "",
        "name",
        "state",
        "tasks",
        "tau",
        "seconds",
        "evidence",
        "reason",
        words=["name", "state", "evidence", "reason"],
    )
    for one in people:
        tau, seconds = (_figure(value, digits) for value, digits in ((one.tau, 2), (one.seconds, 1)))
        table.add_row(one.name, one.state, f"{one.done:,}", tau, seconds, one.vigilance, one.reason)
    return show(table, dim="tau: agreement with the others or the experts, -1 to 1")


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


@app.command()
def pause(
    folder: Folder,
    name: Who,
    reason: Annotated[str, typer.Option(help="Why; it is in the log.")] = "by the researcher",
    database: Database = "",
) -> None:
    """Stop a person; what they hold goes to others, what they voted stays."""
    from hpskit.annotation import people

    people.pause(_open(folder, database).store, name, reason)
    echo(f"{name} is paused")


@app.command()
def resume(folder: Folder, name: Who, database: Database = "") -> None:
    """Let a person go on who was paused or did not qualify; evidence of before no longer counts."""
    from hpskit.annotation import people

    people.resume(_open(folder, database).store, name)
    echo(f"{name} may go on")


@app.command()
def withdraw(folder: Folder, name: Who, database: Database = "") -> None:
    """Take a person out who asks for it: the name goes, and votes as `withdrawal` in project.toml says."""
    from hpskit.annotation import people

    found = _open(folder, database)
    delete = found.project.settings.withdrawal == "delete"
    votes = people.withdraw(found.store, name, delete_votes=delete)
    echo(f"{name} has withdrawn: {votes:,} votes {'deleted' if delete else 'kept under the pseudonym'}")


@app.command()
def review(
    folder: Folder,
    vote: Annotated[str, typer.Argument(help="Id of a vote; without it the votes to look at are listed.")] = "",
    return_: Annotated[str, typer.Option("--return", metavar="REASON", help="Give it back to its annotator.")] = "",
    invalidate: Annotated[str, typer.Option(metavar="REASON", help="Take it out of all counts.")] = "",
    who: Annotated[str, typer.Option(help="Who decides, for the log.")] = "researcher",
    database: Database = "",
    as_json: Json = False,
) -> None:
    """List votes that should be looked at, give one back, or take one out; the page of inspectors shows the images.

    \b
    hpskit annotate review project
    hpskit annotate review project 8c0e… --invalidate "answered twice by a script"
    """
    from dataclasses import asdict

    from hpskit.annotation.votes import invalidate as take_out
    from hpskit.annotation.votes import return_vote
    from hpskit.annotation.web.inspection import LISTS, listed

    found = _open(folder, database)
    if bool(vote) != bool(return_ or invalidate) or (return_ and invalidate):
        raise InputError("review", "wants one decision", expected="VOTE with --return or --invalidate, or nothing")
    if return_:
        return_vote(found.store, vote, return_, found.project.settings, who=who)
        return echo(f"{vote} is back with its annotator")
    if invalidate:
        take_out(found.store, vote, invalidate, who=who)
        return echo(f"{vote} counts no longer")
    with found.store.read() as connection:
        rows = [
            {"list": LISTS[what].lower(), **asdict(item)}
            for what in ("fast", "checks", "unlike", "flags")
            for item in listed(connection, found.project.settings, what)
        ]
    if as_json:
        return echo_json(rows)
    if not rows:
        return echo("no vote to look at")
    table = new_table("", "vote", "annotator", "list", "why", words=["vote", "annotator", "list", "why"])
    for row in rows:
        table.add_row(row["vote"], row["pseudonym"], row["list"], row["why"])
    return show(table, dim="as on the page of inspectors, which shows the images")


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="New folder.")],
    to: Annotated[
        Literal["rankings", "hpdv2", "parquet", "labelstudio"], typer.Option(help="Layout of the data set.")
    ] = "rankings",
    aggregate: Annotated[
        Literal["weighted", "mean"], typer.Option(help="Published order: weighted by reliability, or the plain mean.")
    ] = "weighted",
    keep_paused: Annotated[bool, typer.Option("--keep-paused", help="Count votes of people who are paused.")] = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Write the data set, every vote as it was given, what was excluded and why, and a card.

    \b
    hpskit annotate export project --to hpdv2 --out data/
    hpskit data inspect data/
    """
    from dataclasses import asdict

    from hpskit.annotation.export import export as write
    from hpskit.pages.format import counted

    found = _open(folder, database)
    made = write(found.project, found.store, to, out, aggregate=aggregate, keep_paused=keep_paused)
    if as_json:
        return echo_json(asdict(made))
    echo(
        f"{counted(made.tasks, 'task')}, {made.votes:,} of {made.wanted:,} votes wanted, "
        f"{counted(made.images, 'image')} in {out}"
    )
    for reason, count in made.excluded.items():
        echo(f"not in the data set: {counted(count, 'vote')} ({reason})")
    for what, count in made.lost.items():
        echo(f"this layout has no place for {what} ({counted(count, 'group')})")
    return None


@app.command()
def pay(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="CSV file with a row for each annotator.")],
    database: Database = "",
) -> None:
    """Write what everybody has earned, by pseudonym, as the table pay in project.toml says.

    \b
    hpskit annotate pay project --out pay.csv
    """
    from hpskit.annotation.pay import pay_csv, pay_sheet
    from hpskit.files import publish
    from hpskit.pages.format import counted

    found = _open(folder, database)
    rows = pay_sheet(found.store, found.project.settings)
    with publish(out) as temporary:
        temporary.write_text(pay_csv(rows), encoding="utf-8")
    echo(f"{counted(len(rows), 'row')} in {out}")


@app.command()
def panel(
    folder: Folder,
    name: Annotated[Literal["prolific", "mturk"], typer.Argument(help="The platform.")],
    gone: Annotated[list[str], typer.Argument(metavar="PERSON…", help="Its ids of people who returned or timed out.")],
    reason: Annotated[str, typer.Option(help="What the platform says.")] = "returned",
    database: Database = "",
) -> None:
    """Release the places of people whom a platform says are gone; what they voted stays.

    \b
    hpskit annotate panel project prolific 5f1c… --reason "timed out"
    """
    from hpskit.annotation.web.panels import gone as release

    released = release(_open(folder, database).store, name, gone, reason)
    echo(f"{released} places are free again")


@app.command()
def simulate(
    folder: Folder,
    annotators: Annotated[int, typer.Option(min=2, help="People who rank.")] = 50,
    noise: Annotated[
        float | None,
        typer.Option(min=0, help="Noise of one person; see docs/annotation.md.  \\[default: as in HPD v2]"),
    ] = None,
    bad: Annotated[float, typer.Option(min=0, max=0.9, help="Share of people who do not look.")] = 0.1,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Seconds for one image.  \\[default: 3.5]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is drawn.")] = 0,
    server: Annotated[
        str, typer.Option(metavar="URL", help="Let them do all tasks of this running server, over HTTP.")
    ] = "",
    worth: Annotated[
        list[str] | None,
        typer.Option(metavar="GENERATOR=LOGODDS", help="With --server: worth of a generator's images; repeat."),
    ] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Plan before you pay: accuracy, hours and cost for different numbers of people for each task.

    A plan stores nothing; noise and seconds are those of the project's own votes, if it has 30. With --server made-up
    people vote on a running server of a project without votes, to see that it stands so many; exports say so.

    \b
    hpskit annotate simulate project --annotators 50 --bad 0.3
    hpskit annotate simulate project --annotators 200 --server http://127.0.0.1:8100
    """
    from hpskit.annotation.simulate import plan_project

    found = _open(folder, database)
    if server:
        return _drive(found, server, annotators, worth or [], 1.0 if noise is None else noise, seed, as_json)
    rows: list[dict[str, Any]] = plan_project(
        found.project, found.store, annotators=annotators, noise=noise, bad=bad, seconds=seconds, seed=seed
    )
    if as_json:
        return echo_json(rows)
    table = new_table("", "people a task", "pairs right", "tau, weighted", "tau, plain", "hours", "cost")
    for row in rows:
        cost = f"{row['cost']:,.2f} {row['currency']}" if row["cost"] else "see [pay]"
        figures = (f"{row['pairs']:.1%}", f"{row['tau_weighted']:.3f}", f"{row['tau_plain']:.3f}")
        table.add_row(f"{row['overlap']}", *figures, f"{row['hours']:,.2f}", cost)
    note = (
        "pairs ordered right, and Kendall's tau of the weighted and the plain mean rank, against infinitely many people"
    )
    return show(table, dim=note)


def _drive(
    found: Opened, server: str, annotators: int, worth: list[str], noise: float, seed: int, as_json: bool
) -> None:
    from hpskit.annotation.simulate import drive

    with progress_bar() as bar:
        driven = drive(
            found.store,
            server,
            annotators=annotators,
            worth=_worths(worth),
            noise=noise,
            seed=seed,
            progress=step_progress(bar),
        )
    waits = {kind: [driven.quantile(kind, share) for share in (0.5, 0.95, 0.99)] for kind in driven.waits}
    if as_json:
        return echo_json({"votes": driven.votes, "seconds": driven.seconds, "waits": waits})
    echo(f"{driven.votes:,} votes of {annotators} people in {driven.seconds:.1f} s")
    table = new_table("", "request", "median", "95 %", "99 %")
    for kind, values in waits.items():
        table.add_row(kind, *(f"{1000 * value:,.0f} ms" for value in values))
    return show(table, dim=server)


def _worths(given: list[str]) -> dict[str, float]:
    found = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise InputError("--worth", f"is {text!r}", expected="GENERATOR=NUMBER, such as fine=4") from error
    return found
