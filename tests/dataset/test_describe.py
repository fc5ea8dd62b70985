"""A data set in numbers, before anything is learned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from hpskit.dataset.convert import convert
from hpskit.dataset.describe import Context, describe
from hpskit.dataset.reading import DataSet, open_data
from preference_data import TRAIN_ROW, write_json


def pairs_data(folder: Path, rows: list[tuple[str, str, str, Any]]) -> DataSet:
    """`train.json` of (prompt, first, second, label), with images as wide as their names say."""
    for name in {name for _, first, second, _ in rows for name in (first, second)}:
        Image.new("RGB", (int(name[:-4].rsplit("-", maxsplit=1)[-1]), 20)).save(folder / name)
    values = [
        {**TRAIN_ROW, "prompt": prompt, "file_path": [a, b], "human_preference": label} for prompt, a, b, label in rows
    ]
    return open_data(write_json(folder / "train.json", values))


def test_what_is_counted(tmp_path: Path) -> None:
    a, b, c = "a-10.png", "b-30.png", "c-50.png"
    rows = [
        ("p", a, b, [1, 0]),
        ("p", b, a, [1, 0]),  # the other way round
        ("p", b, a, [0, 1]),  # the same again
        ("p", a, c, [0.5, 0.5]),
        ("q", a, c, [0, 1]),
    ]
    data = pairs_data(tmp_path, rows)
    found = describe(data)
    assert found.lines() == [
        f"{data.name}: 5 groups, 2 prompts, 5 compared pairs",
        "images in a group: 2: 5",
        "pairs tied exactly: 1",
        "pairs that an earlier row has: 2, the other way round 1",
        "the image named first is preferred in 50.0% of the pairs without ties",
        "3 images looked at: median 30x20 pixels, sides from 10 to 50",
    ]
    contradicted = "1 of 5 pairs say the opposite of an earlier one; no model can agree with both"
    assert found.warnings() == [f"{data.name}: {contradicted}"]


def test_the_same_in_every_layout(tmp_path: Path, inputs: Path) -> None:
    data = open_data(inputs / "HPDv2")
    convert(data, "parquet", tmp_path / "a.parquet")
    found = describe(data)
    assert found.lines()[0].endswith(": 12 groups, 12 prompts, 72 compared pairs")
    assert found.group_sizes == {4: 12}
    assert len(found.sizes) == 48
    again = describe(open_data(tmp_path / "a.parquet"))
    assert again.lines()[1:] == found.lines()[1:]


def test_prompts_that_the_network_does_not_read_to_their_end(tmp_path: Path) -> None:
    asked: list[str] = []

    def count(prompt: str) -> int:
        asked.append(prompt)
        return len(prompt.split()) + 2

    prompts = ["a b c d", "a b c d", "a b c", "one two three", "abcdefgh", "abc"]
    data = pairs_data(tmp_path, [(prompt, "a-3.png", "b-3.png", [1, 0]) for prompt in prompts])
    found = describe(data, context=Context(tokens=5, count=count))
    assert (found.counts["prompts"], found.counts["cut"]) == (5, 1)
    assert sorted(asked) == ["a b c", "a b c d", "abcdefgh", "one two three"], "three bytes are three tokens at most"
    cut = "1 of 5 prompts are longer than the 5 tokens that the network reads; nothing is learned from the rest of them"
    assert f"{data.name}: {cut}" in found.warnings()


def test_what_is_worth_a_warning(tmp_path: Path) -> None:
    one_sided = pairs_data(tmp_path, [(f"p{n}", "a-3.png", "b-3.png", [1, 0]) for n in range(101)])
    [line] = describe(one_sided).warnings()
    assert "the image named first is preferred in 100.0% of the pairs" in line
    (tmp_path / "a-3.png").write_bytes(b"no image")
    tied = pairs_data(tmp_path, [(f"p{n}", "x-3.png", "a-3.png", [0.5, 0.5]) for n in range(3)])
    for content in (b"no image", b"P6\n4\xff 4\n255\n"):  # at the second Pillow raises ValueError
        (tmp_path / "a-3.png").write_bytes(content)
        broken, line = describe(tied).warnings()
        assert "train.json: entry 1 (line 2): image 'a-3.png': cannot be used" in broken
    assert "3 of 3 pairs are tied and say little" in line
