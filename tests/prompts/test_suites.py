"""Prompt suites: every kind of file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError, NotCachedError, OutputError
from hpskit.prompts.suites import Suite, SuitePrompt, image_name, open_suite, write_prompts

_TEXTS = ["a cat", 'the word "STOP", in red', "naïve 猫"]


def _written(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(
        {
            "list.json": json.dumps(_TEXTS),
            "rows.json": json.dumps([{"prompt": text, "category": "x"} for text in _TEXTS]),
            "lines.jsonl": "".join(json.dumps({"prompt": text, "seed": 3}) + "\n" for text in _TEXTS),
            "plain.txt": "\n\n".join(_TEXTS) + "\n",
            "table.csv": 'Prompt,Category\na cat,x\n"the word ""STOP"", in red",x\nnaïve 猫,x \n',
            "table.tsv": 'Prompt\tCategory\tNote\na cat\tx\t\nthe word "STOP", in red\tx\t1\nnaïve 猫\tx\t\n',
        }[name],
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("name", ["list.json", "rows.json", "lines.jsonl", "plain.txt", "table.csv", "table.tsv"])
def test_every_kind_of_file_gives_the_same_prompts(name: str, tmp_path: Path) -> None:
    suite = open_suite(_written(tmp_path, name))
    assert [prompt.prompt for prompt in suite.prompts] == _TEXTS
    assert [prompt.number for prompt in suite.prompts] == [0, 1, 2]
    assert suite.categories == (("",) if name in ("list.json", "lines.jsonl", "plain.txt") else ("x",))
    assert suite.name == Path(name).stem


def test_a_folder_of_lists_has_their_names_as_categories(tmp_path: Path) -> None:
    for name in ("photo", "anime"):
        (tmp_path / f"{name}.json").write_text(json.dumps([f"{name} 0", f"{name} 1"]))
    suite = open_suite(tmp_path)
    assert [(p.category, p.number, p.prompt) for p in suite.prompts] == [
        ("anime", 0, "anime 0"),
        ("anime", 1, "anime 1"),
        ("photo", 0, "photo 0"),
        ("photo", 1, "photo 1"),
    ]
    assert [image_name(prompt) for prompt in suite.prompts[1:3]] == ["anime/00001.jpg", "photo/00000.jpg"]
    hashes = set()
    for number, rows in enumerate(([("", "a"), ("", "b")], [("", "b"), ("", "a")], [("", "ab")], [("x", "a")])):
        prompts = [SuitePrompt(category=category, number=0, prompt=prompt) for category, prompt in rows]
        hashes.add(Suite(name=f"{number}", source="", prompts=prompts).sha256)
    assert len(hashes) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "B b", "ü"]), st.text(min_size=1).filter(lambda t: t.strip() and _is_unicode(t))
        ),
        min_size=1,
    )
)
def test_what_is_written_is_the_same_suite(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("suite")
    source = folder / "s.jsonl"
    source.write_text("".join(json.dumps({"prompt": p, "category": c}) + "\n" for c, p in rows), encoding="utf-8")
    suite = open_suite(source)
    again = open_suite(write_prompts(suite, folder / "out").parent)
    assert again.prompts == suite.prompts
    assert again.sha256 == suite.sha256


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(character) < 0xE000 for character in text)


def test_prompts_that_only_have_its_name_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/hpsv2.json").write_text('["a", "b"]')
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="not the published prompts of hpsv2"):
        open_suite("hpsv2")
    (tmp_path / "suites/hpsv2.txt").write_text("a")
    with pytest.raises(InputError, check=at(tmp_path / "suites", found="hpsv2.json and hpsv2.txt")):
        open_suite("hpsv2")


@pytest.mark.parametrize(
    ("name", "text", "place", "found"),
    [
        ("s.json", "[]", "", "has no prompts"),
        ("s.json", '{"a": 1}', "", "is dict"),
        ("s.json", '["a", 5]', ": entry 2: prompt", "is 5"),
        ("s.json", '["a", " "]', ": entry 2: prompt", "is ' '"),
        ("s.json", '["\\ud800"]', "", "surrogates"),
        ("s.jsonl", '{"text": "a"}\n', ": row 1: column 'prompt'", "is missing (there are: text)"),
        ("s.jsonl", '{"prompt": "a", "category": 3}\n', ": row 1: category", "is 3"),
        ("s.jsonl", '{"prompt": "a", "number": 1}\n', ": row 1: number", "is 1"),
        ("s.csv", "prompt,category\na,../b\n", ": row 1: category", "is '../b'"),
        ("s.csv", "prompt,category\na," + "x" * 300 + "\n", ": row 1: category", "is 'xxx"),
        ("s.csv", "prompt,category\na,x\nb,X\n", "", "'x' and 'X'"),
        ("s.csv", "prompt,category\na,x\nb,\n", "", "some prompts with a category and some without"),
    ],
)
def test_what_is_no_suite_is_refused_with_its_place(
    name: str, text: str, place: str, found: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, check=at(f"{tmp_path / name}{place}", found=found)):
        open_suite(tmp_path / name)


def test_an_unknown_name_lists_the_known_ones_and_what_is_not_here_says_where_it_belongs() -> None:
    with pytest.raises(NotCachedError, check=at(cure="suites/partiprompts.tsv")):
        open_suite("partiprompts")
    with pytest.raises(InputError, check=at("suite", found="is 'hpsv3'", expected="hpsv2, drawbench")):
        open_suite("hpsv3")


def test_only_a_line_end_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes("a\u2028b\x0cc\r\nd\n".encode())
    assert [prompt.prompt for prompt in open_suite(tmp_path / "s.txt").prompts] == ["a\u2028b\x0cc", "d"]


def test_what_is_written_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "seed": 3}\n')
    suite = open_suite(tmp_path)
    with pytest.raises(OutputError, check=at(tmp_path / "prompts.jsonl", found="is there already")):
        write_prompts(suite, tmp_path)
    assert write_prompts(suite, tmp_path / "out") == write_prompts(suite, tmp_path / "out"), "the same may be there"
