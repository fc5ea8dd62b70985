"""Tables and charts for papers: what stands in them, and that nothing of others steers LaTeX, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError
from hpskit.pages.charts import Dot, axis_for, dot_chart
from hpskit.pages.paper import Column, Estimate, Paper, Table, formats_of, paper_files

EVIL = r"50% & #1_a {x} \input{/etc/passwd} ~^ <b>|\\ $--$ [1]" + " \N{MINUS SIGN}2…"
COLUMNS = [
    Column(key="model", title="model"),
    Column(key="mean", title="mean, %", digits=1, percent=True),
    Column(key="p", digits=3, ends=False),  # for CSV alone
]
HARD = ("Ünï 'x' \"y\" `z`", "a--b ?`", "*", "[2cm]")
LATEX = shutil.which("pdflatex")


def paper(*names: str) -> Paper:
    rows = [[name, Estimate(value=1 / 3, low=-0.25, high=0.5, bold=n == 0), None] for n, name in enumerate(names)]
    table = Table(label="a b", caption=f"Caption {names[0]}", columns=COLUMNS, rows=[*rows, None], notes=[names[0]])
    dots = [Dot(name=name, value=1 / 3, low=-0.25, high=0.5) for name in names]
    chart = dot_chart("by <mini>", axis_for([-0.25, 0.5]), dots)
    result = {"package": "x", "command": f"y\n{names[0]}", "settings": {"level": 0.9}}
    return Paper(title="t", result=result, tables=[table], columns=COLUMNS, rows=rows, charts=[chart], note="n & n")


def test_a_table_in_latex() -> None:
    text = paper_files(paper(EVIL, "Ünï", "*", "[2cm]"), "a", ["latex"])["a.tex"].decode()
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert all("input{" not in line.replace(r"\textbackslash{}input\{", "") for line in body)
    cells = next(line for line in body if line.startswith("Ünï"))
    assert cells == r"Ünï & 33.3 & {\footnotesize {[}$-$25.0, 50.0{]}} \\"
    assert r"{\footnotesize Brackets: 90 \% intervals over prompts. 50\%" in text
    assert r"50\% \& \#1\_a \{x\} \textbackslash{}input" in text
    assert r"\textbf{33.3}" in text
    assert r"\label{tab:a-b}" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert re.findall(r"\\(top|mid|bottom)rule", text) == ["top", "mid", "mid", "bottom"]


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Cf"]), min_size=1))
def test_names_do_not_open_or_close_anything(name: str) -> None:
    text = paper_files(paper(name), "a", ["latex"])["a.tex"].decode()
    bare = re.sub(r"\\[\\{}$&#_%]|%.*", "", text)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0


@pytest.mark.skipif(LATEX is None, reason="needs pdflatex (Debian: apt install texlive-latex-recommended)")
def test_latex_compiles(tmp_path: Path) -> None:
    (tmp_path / "a.tex").write_bytes(paper_files(paper(EVIL, *HARD), "a", ["latex"])["a.tex"])
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{a.tex}\end{document}"
    (tmp_path / "main.tex").write_text(document)
    command = [str(LATEX), "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout


def test_csv_has_all_digits_and_no_formula() -> None:
    text = paper_files(paper("a,b", '=c"'), "a", ["csv"])["a.csv"].decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["model", "mean", "mean_low", "mean_high", "p"]
    assert [rows[1][0], rows[2][0]] == ["a,b", "'=c\""]
    assert [float(cell) for cell in rows[1][1:4]] == [1 / 3, -0.25, 0.5]
    assert rows[1][4] == ""


def test_markdown_has_one_row_for_each() -> None:
    text = paper_files(paper(EVIL, "b"), "a", ["md"])["a.md"].decode()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table)
    assert table[3] == "| b | 33.3 \\[\N{MINUS SIGN}25.0, 50.0\\] |"


def test_charts_keep_text_as_text() -> None:
    names = ("a & b", "x" * 80)
    files = paper_files(paper(*names), "a", ["svg"])
    root = ElementTree.fromstring(files["a.svg"])
    words = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b", "x" * 47 + "…", "by <mini>", "90 % intervals over prompts. n & n"} <= set(words)
    assert b"var(" not in files["a.svg"]


def test_a_pdf_is_the_same_each_time() -> None:
    pytest.importorskip("cairosvg", reason="needs the extra pdf")
    first, again = (paper_files(paper("a", "\N{MINUS SIGN}b"), "a", ["pdf"])["a.pdf"] for _ in range(2))
    assert first == again
    assert first.startswith(b"%PDF")
    assert b"/FontFile" in first  # text, in a font that is inside


def test_what_is_asked_for(tmp_path: Path) -> None:
    assert formats_of(tmp_path, "a", ["csv,latex", "svg"]) == ["latex", "csv", "svg"]
    for name in ("a.md", "a.pdf"):
        (tmp_path / name).touch()
    for text in ("", "[1]", '{"files": ["a.md"]}', '{"files": {"a.html": ""}}'):
        (tmp_path / "a.json").write_text(text)
        assert formats_of(tmp_path, "a", []) == [], "they are somebody's own"
    (tmp_path / "a.json").write_text('{"files": {"a.html": "", "a.md": ""}}')
    assert formats_of(tmp_path, "a", ["csv"]) == ["csv", "md"]  # so that all files of a folder are of one result
    assert formats_of(tmp_path, "a", [], record="manifest.json") == []
    with pytest.raises(InputError, check=at("--paper")):
        formats_of(tmp_path, "a", ["docx"])
    for name in ("lb.csv", "lb.html", "lb.TEX"):
        with pytest.raises(InputError, check=at("--out")):
            formats_of(tmp_path / name, "a", [])
    (tmp_path / "v1.csv").mkdir()
    assert formats_of(tmp_path / "v1.csv", "a", []) == []
