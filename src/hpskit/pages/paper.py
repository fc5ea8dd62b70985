"""Results as papers take them: a table in LaTeX, CSV or Markdown, and a chart as SVG or PDF."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from markupsafe import Markup

from hpskit.errors import InputError, MissingExtraError, shown
from hpskit.pages.format import between, number, plain, signed, unharmful
from hpskit.pages.page import figure_file
from hpskit.stage import check_folder, read_record

_SUFFIXES = {"latex": "tex", "csv": "csv", "md": "md", "svg": "svg", "pdf": "pdf"}
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "{}$&#_%"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\N{MINUS SIGN}": "$-$"}
_LATEX |= {
    "†": r"$^\dagger$",
    "\N{EN DASH}": "--",
    "\N{NO-BREAK SPACE}": "~",
    "±": r"$\pm$",
    "…": r"\ldots{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",  # at the beginning of a row it, and a bracket, would belong to the end of the row above
    '"': "''",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure with its interval, whose ends may be None."""

    value: float
    low: float | None = None
    high: float | None = None
    bold: bool = False


def estimate(row: Mapping[str, Any] | None, *, bold: bool = False) -> Estimate | None:
    """Take `value`, and `low` and `high` if there are any, of a row of a result; None where there is no value."""
    if row is None or row["value"] is None:
        return None
    return Estimate(value=row["value"], low=row.get("low"), high=row.get("high"), bold=bold)


Cell: TypeAlias = str | Estimate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table; its cells are texts, estimates, or empty."""

    key: str
    """Its name in CSV, where the ends of intervals are `KEY_low` and `KEY_high`."""
    title: str = ""
    """Its head in the other formats; an empty one is left out of them."""
    digits: int | None = None
    """Decimals of its estimates; None is a column of texts, set to the left."""
    percent: bool = False
    """The estimates are shares, shown in percent."""
    sign: bool = False
    ends: bool = True
    """The estimates have intervals."""

    @property
    def interval(self) -> bool:
        """Tell whether the ends of intervals have a place of their own."""
        return self.digits is not None and self.ends

    def written(self, cell: Cell) -> tuple[str, str]:
        """The figure and its interval as people read them."""
        if not isinstance(cell, Estimate) or self.digits is None:
            return str(cell or ""), ""
        scale, write = 100 if self.percent else 1, signed if self.sign else number
        low, high = (None if end is None else scale * end for end in (cell.low, cell.high))
        ends = between(low, high, self.digits, sign=self.sign).replace(" to ", ", ")
        return write(scale * cell.value, self.digits), f"[{ends}]" if ends else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table with its caption; a row that is None is a rule between two parts."""

    label: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell] | None]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """A result, ready to be written in any of the formats."""

    title: str
    result: Mapping[str, Any]
    """Its `package` and `command` stand in a comment of the LaTeX file, the level of its intervals in the notes."""
    tables: Sequence[Table]
    columns: Sequence[Column]
    """Of everything, for CSV."""
    rows: Sequence[Sequence[Cell]]
    charts: Sequence[Markup]
    note: str = ""
    """What is to be said below the charts besides."""

    @property
    def level(self) -> str:
        """Say what the intervals are."""
        return f"{100 * self.result['settings']['level']:g} % intervals over prompts."

    def notes(self, table: Table) -> list[str]:
        """Return what stands below a table."""
        return [f"Brackets: {self.level}", *table.notes]


def formats_of(out: Path, stem: str, asked: Iterable[str], *, record: str = "") -> list[str]:
    """Return the formats that are asked for, and those whose files an earlier run made: all are of one result.

    Names may stand in one text, with commas between them. `record` names the files of a run; empty is `STEM.json`.

    Raises:
        InputError: there is no such format, or the folder is named as a file.
        MissingExtraError: a PDF is asked for, and what writes it is not installed.
    """
    same = [name for name, suffix in _SUFFIXES.items() if out.suffix.lower() == f".{suffix}"]
    check_folder(out, f" --paper {same[0]}" if same else "")
    names = [name.strip() for names in asked for name in names.split(",")]
    for name in names:
        if name not in _SUFFIXES:
            raise InputError("--paper", f"has {shown(name)}", expected=f"some of {', '.join(_SUFFIXES)}")
    made = read_record(out / (record or f"{stem}.json")).get("files", {})
    found = [name for name in _SUFFIXES if name in names or made.keys() & file_names(stem, [name])]
    if "pdf" in found:
        _pdf_writer()
    return found


def file_names(stem: str, formats: Iterable[str]) -> list[str]:
    """Name the files of these formats."""
    return [f"{stem}.{_SUFFIXES[name]}" for name in formats]


def paper_files(paper: Paper, stem: str, formats: Iterable[str]) -> dict[str, bytes]:
    """Make the files, by name; made again from the same result they are equal to the byte."""
    writers: Mapping[str, Callable[[Paper], bytes]] = {
        "latex": lambda paper: _latex(paper).encode(),
        "csv": lambda paper: _csv(paper).encode(),
        "md": lambda paper: "\n".join(_markdown(table, paper.notes(table)) for table in paper.tables).encode(),
        "svg": lambda paper: _figure(paper).encode(),
        "pdf": lambda paper: _pdf(_figure(paper)),
    }
    return {name: writers[kind](paper) for kind in formats for name in file_names(stem, [kind])}


# Tables


def _escaped(text: str) -> str:
    """Text as LaTeX sets it, whatever is in it; dashes do not join."""
    apart = re.sub("-(?=-)", "-\0", " ".join(text.split(" ")).replace("\n", " "))
    return "".join("{}" if character == "\0" else _LATEX.get(character, character) for character in apart)


def _latex(paper: Paper) -> str:
    made_by = f"{paper.result['package']}: {paper.result['command']}"
    lines = [
        f"% Made by {' '.join(made_by.split())}",
        "% Needs \\usepackage{booktabs}; names beyond Latin need LuaLaTeX.",
    ]
    for table in paper.tables:
        shown = [column for column in table.columns if column.title]
        kinds = ["l" if one.digits is None else "r@{~}l" if one.interval else "r" for one in shown]
        heads = [
            rf"\multicolumn{{2}}{{c}}{{{_escaped(one.title)}}}" if one.interval else _escaped(one.title)
            for one in shown
        ]
        lines += [
            "",
            r"\begin{table}",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{_escaped(table.caption)}}}",
        ]
        lines += [rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.label).strip('-')}}}"]
        lines += [
            rf"\begin{{tabular}}{{@{{}}{' '.join(kinds)}@{{}}}}",
            r"\toprule",
            f"{' & '.join(heads)} \\\\",
            r"\midrule",
        ]
        for row in table.rows:
            if row is None:
                lines.append(r"\midrule")
                continue
            cells = []
            for column, cell in zip(table.columns, row, strict=True):
                if column.title:
                    value, ends = map(_escaped, column.written(cell))
                    cells.append(rf"\textbf{{{value}}}" if isinstance(cell, Estimate) and cell.bold else value)
                    cells += [rf"{{\footnotesize {ends}}}" if ends else ""] if column.interval else []
            lines.append(f"{' & '.join(cells)} \\\\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += ["", rf"\smallskip{{\footnotesize {_escaped(' '.join(paper.notes(table)))}\par}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _markdown(table: Table, notes: Iterable[str]) -> str:
    shown = [column for column in table.columns if column.title]
    lines = [f"| {' | '.join(plain(column.title) for column in shown)} |"]
    lines.append(f"| {' | '.join('---' if column.digits is None else '---:' for column in shown)} |")
    for row in table.rows:
        cells = []
        for column, cell in zip(table.columns, row or [None] * len(table.columns), strict=True):
            if column.title:
                value, ends = (str(plain(text)) for text in column.written(cell))
                value = f"**{value}**" if isinstance(cell, Estimate) and cell.bold else value
                cells.append(f"{value} {ends}".strip())
        lines += [f"| {' | '.join(cells)} |"] if row is not None else []
    below = "".join(f"\n{plain(note)}\n" for note in notes)
    return f"**{plain(table.caption)}**\n\n" + "\n".join(lines) + f"\n{below}"


def _csv(paper: Paper) -> str:
    """Numbers in full precision, ends of intervals in columns of their own; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([one.key + end for one in paper.columns for end in ("", "_low", "_high")[: 1 + 2 * one.interval]])
    for row in paper.rows:
        cells: list[object] = []
        for column, cell in zip(paper.columns, row, strict=True):
            one = (cell.value, cell.low, cell.high) if isinstance(cell, Estimate) else (unharmful(cell), None, None)
            cells += one[: 1 + 2 * column.interval]
        writer.writerow(cells)
    return text.getvalue()


# Charts


def _figure(paper: Paper) -> str:
    """All charts, one below another, each as large as it is drawn."""
    sizes = [re.findall(r'viewBox="\S+ \S+ (\S+) (\S+)"', chart)[0] for chart in paper.charts]
    width, height = (max(float(size[n]) for size in sizes) for n in (0, 1))
    note = f"{paper.level} {paper.note}".strip()
    return figure_file(paper.title, paper.charts, columns=1, cell=(round(width), round(height) + 8), note=note)


def _pdf(svg: str) -> bytes:
    """Vectors, with text as text in a font that is inside; without the time, so that it can be made again."""
    written: bytes = _pdf_writer()(bytestring=svg.encode())
    return re.sub(rb"(/CreationDate \(D:)\d{14}", rb"\g<1>20000101000000", written)


def _pdf_writer() -> Callable[..., bytes]:
    try:
        import cairosvg
    except ImportError as error:
        raise MissingExtraError(
            "--paper pdf", "needs CairoSVG", cure="pip install 'hpskit[pdf]', or take svg"
        ) from error
    except OSError as error:  # its own library is no Python package
        cure = "install it (Debian: apt install libcairo2), or take svg"
        raise MissingExtraError("--paper pdf", "needs the library cairo", cure=cure) from error
    writer: Callable[..., bytes] = cairosvg.svg2pdf
    return writer
