"""Results as papers take them: a table in LaTeX, CSV or Markdown, and a chart as SVG or PDF."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from markupsafe import Markup

from hpskit.errors import InputError, MissingExtraError, shown
from hpskit.pages.format import between, number, plain, signed
from hpskit.pages.page import figure_file
from hpskit.stage import check_folder

__all__ = ["Column", "Estimate", "Paper", "Table", "estimate", "formats_of", "paper_files"]

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
    made_by: str
    """Package and command, in a comment of the LaTeX file."""
    tables: Sequence[Table]
    data: Table
    """Everything, for CSV."""
    charts: Sequence[Markup]
    note: str


def formats_of(out: Path, stem: str, asked: Iterable[str]) -> list[str]:
    """Return the formats that are asked for, and those whose files an earlier run left: all are of one result.

    Names may stand in one text, with commas between them.

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
    found = [name for name, suffix in _SUFFIXES.items() if name in names or os.path.exists(out / f"{stem}.{suffix}")]
    if "pdf" in found:
        _pdf_writer()
    return found


def paper_files(paper: Paper, stem: str, formats: Iterable[str]) -> dict[str, bytes]:
    """Make the files, by name; made again from the same result they are equal to the byte."""
    writers: Mapping[str, Callable[[Paper], bytes]] = {
        "latex": lambda paper: _latex(paper).encode(),
        "csv": lambda paper: _csv(paper.data).encode(),
        "md": lambda paper: "\n".join(map(_markdown, paper.tables)).encode(),
        "svg": lambda paper: _figure(paper).encode(),
        "pdf": lambda paper: _pdf(_figure(paper)),
    }
    return {f"{stem}.{_SUFFIXES[name]}": writers[name](paper) for name in formats}


# Tables


def _escaped(text: str) -> str:
    """Text as LaTeX sets it, whatever is in it; dashes do not join."""
    apart = re.sub("-(?=-)", "-\0", " ".join(text.split(" ")).replace("\n", " "))
    return "".join("{}" if character == "\0" else _LATEX.get(character, character) for character in apart)


def _latex(paper: Paper) -> str:
    lines = [
        f"% {' '.join(paper.made_by.split())}",
        "% Needs \\usepackage{booktabs}; names beyond Latin need LuaLaTeX.",
    ]
    for table in paper.tables:
        shown = [column for column in table.columns if column.title]
        kinds = ["l" if one.digits is None else "r@{~}l" if one.ends else "r" for one in shown]
        heads = [
            rf"\multicolumn{{2}}{{c}}{{{_escaped(one.title)}}}"
            if one.digits is not None and one.ends
            else _escaped(one.title)
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
                    cells += (
                        [rf"{{\footnotesize {ends}}}" if ends else ""]
                        if column.digits is not None and column.ends
                        else []
                    )
            lines.append(f"{' & '.join(cells)} \\\\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += ["", rf"\smallskip{{\footnotesize {_escaped(' '.join(table.notes))}\par}}"] if table.notes else []
        lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> str:
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
    notes = "".join(f"\n{plain(note)}\n" for note in table.notes)
    return f"**{plain(table.caption)}**\n\n" + "\n".join(lines) + f"\n{notes}"


def _csv(table: Table) -> str:
    """Numbers in full precision, ends of intervals in columns of their own; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for column in table.columns for name in _names(column)])
    for row in table.rows:
        cells: list[object] = []
        for column, cell in zip(table.columns, row or (), strict=True):
            if isinstance(cell, Estimate):
                cells += [cell.value, cell.low, cell.high][: len(_names(column))]
            else:
                cells += [cell, None, None][: len(_names(column))]
        writer.writerow(cells)
    return text.getvalue()


def _names(column: Column) -> list[str]:
    ends = column.digits is not None and column.ends
    return [column.key, *(f"{column.key}_{end}" for end in (("low", "high") if ends else ()))]


# Charts


def _figure(paper: Paper) -> str:
    """All charts, one below another, each as large as it is drawn."""
    sizes = [re.findall(r'viewBox="\S+ \S+ (\S+) (\S+)"', chart)[0] for chart in paper.charts]
    width, height = (max(float(size[n]) for size in sizes) for n in (0, 1))
    return figure_file(paper.title, paper.charts, columns=1, cell=(round(width), round(height) + 8), note=paper.note)


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
