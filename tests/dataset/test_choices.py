"""Pairwise choices in tables of anybody's: what their columns and words mean, and what is not clear."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import Cli
from error_fields import at
from hpskit.dataset.group import Group
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, RecordError
from hpskit.training.data import TrainConfig, read_data
from hpskit.training.recipes import read_recipe


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".json", ".jsonl"):
        lines = [json.dumps(row) for row in rows]
        path.write_text(f"[{','.join(lines)}]" if path.suffix == ".json" else "\n".join(lines))
    else:
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path, columns: str = "auto") -> list[Group]:
    with pytest.warns(UserWarning, match="by the names of its columns"):
        return [*open_data(path, format=columns)]


def votes(group: Group) -> tuple[int, int, int]:
    """For the first, for the second, ties."""
    counts = {(1, 2): 0, (2, 1): 0, (1, 1): 0}
    for one in group.judgements:
        counts[one.ranks] += one.votes  # type: ignore[index]
    return counts[1, 2], counts[2, 1], counts[1, 1]


A, B, TIE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
WINNERS = [
    (
        "image_a,image_b",
        "winner",
        {"a": A, "b": B, "tie": TIE, "A": A, "B": B, "image_a": A, "y.png": B, "": (0, 0, 0)},
    ),
    ("left_image,right_image", "preference", {"left": A, "right": B, "both": TIE, "x.png": A}),
    ("img1,img2", "label", {"1": A, "2": B, "img2": B, "0.5": TIE}),
    ("imageA,imageB", "choice", {"model_a": A, "model_b": B, "tie (bothbad)": TIE}),
    ("path_0,path_1", "best", {"path_0": A, "path_1": B}),
    ("first,second", "winner", {"first": A, "second": B}),
]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize(("images", "winner", "words"), WINNERS, ids=[images for images, _, _ in WINNERS])
def test_words_for_the_winner(ending: str, images: str, winner: str, words: dict[str, Any], tmp_path: Path) -> None:
    one, two = images.split(",")
    rows = [{"caption": f"cat {n}", one: "x.png", two: "y.png", winner: word} for n, word in enumerate(words)]
    groups = read(write(tmp_path / f"choices{ending}", rows))
    assert [votes(group) for group in groups] == [*words.values()]
    assert {group.images for group in groups} == {("x.png", "y.png")}
    assert [group.prompt for group in groups] == [row["caption"] for row in rows]


def test_names_that_say_who_won(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "chosen": "a.png", "rejected": "b.png"}]
    assert votes(read(write(tmp_path / "a.csv", rows))[0]) == A
    assert votes(read(write(tmp_path / "b.csv", [{**rows[0], "votes": 25}]))[0]) == (25, 0, 0)


def test_votes_beside_the_winner_are_votes_for_it(tmp_path: Path) -> None:
    row = {"prompt": "x", "image_a": "a.png", "image_b": "b.png", "winner": "b", "n_votes": 25}
    assert votes(read(write(tmp_path / "a.csv", [row]))[0]) == (0, 25, 0)
    with pytest.raises(RecordError, check=at("row 1: 'n_votes'", expected="a whole number of votes")):
        read(write(tmp_path / "a.csv", [{**row, "n_votes": 2.5}]))


@pytest.mark.parametrize(
    ("first", "second", "winner", "expected"),
    [
        ("r/cat-2.png", "r/cat-1.png", "cat-1.png", B),
        ("r/cat-2.png", "r/cat-1.png", "cat-2.png", A),
        ("r/tie-dye.png", "r/2.png", "tie-dye.png", A),
        ("C:\\b\\1.png", "C:\\b\\2.png", "2.png", B),
        ("/d/b/1.png", "/d/a/1.png", "/d/a/1.png", B),
        ("/d/b/1.png", "/d/a/1.png", "a/1.png", None),
        ("/d/b/1.png", "/d/a/1.png", "1.png", None),
        ("x.png", "y.png", "a draw", None),
        ("x.png", "y.png", "it's a tie", None),
        ("x.png", "y.png", "not a", None),
        ("x.png", "y.png", "neither is a good one", None),
        ("x.png", "y.png", "Option 1", None),
        ("x.png", "a", "a", None),
        ("2", "1", "1", None),
    ],
)
def test_no_winner_is_guessed_from_stray_words(
    first: str, second: str, winner: str, expected: tuple[int, int, int] | None, tmp_path: Path
) -> None:
    """A word says who won exactly, or the row is an error that says which words do."""
    row = {"prompt": "x", "image_1": first, "image_2": second, "choice": winner}
    path = write(tmp_path / "a.csv", [row, {**row, "image_2": "z", "choice": 2}])
    if expected is not None:
        assert votes(read(path)[0]) == expected
    else:
        with pytest.raises(RecordError, check=at("row 1: 'choice'", expected="the file name of one of the two images")):
            read(path)


def test_what_is_said_of_numbers_goes_before_the_names_of_images(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}", "image_a": "2", "image_b": "1", "winner": n} for n in (1, 2)]
    path = write(tmp_path / "a.csv", rows)
    assert [votes(group) for group in read(path, "1=first,2=second")] == [A, B]
    assert [votes(group) for group in read(path, "2=first")] == [B, A]
    with pytest.raises(RecordError, check=at(cure="--columns 1=first,2=second")):
        read(path)
    turned = write(tmp_path / "b.csv", [{**rows[0], "winner": "a"}])
    assert votes(read(turned, "first=image_b,second=image_a")[0]) == B


@pytest.mark.parametrize(
    "said", ["winner=label,first_share=share_a", "first_votes=share_a", "first_votes=a,second_votes=b,votes=share_a"]
)
def test_one_way_to_say_who_won(said: str, tmp_path: Path) -> None:
    row = {"prompt": "x", "image_a": "a.png", "image_b": "b.png", "label": "a", "share_a": 1, "a": 1, "b": 2}
    with pytest.raises(InputError, check=at("--columns", found="says who won by", expected="winner, or")):
        open_data(write(tmp_path / "a.csv", [row]), format=said)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"share_a": 0.75, "votes": 4}, (3, 1, 0)),
        ({"label_0": 0.5, "label_1": 0.5}, TIE),
        ({"label_0": 0, "label_1": 1}, B),
        ({"votes_a": 5, "votes_b": 2}, (5, 2, 0)),
        ({"first_share": 1}, A),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_shares_and_votes(columns: dict[str, Any], expected: tuple[int, int, int], ending: str, tmp_path: Path) -> None:
    rows = [{"prompt": "x", "image_a": "a.png", "image_b": "b.png", **columns}]
    assert votes(read(write(tmp_path / f"a{ending}", rows))[0]) == expected


def test_rows_of_several_people_are_votes_on_one_pair(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "image_a": a, "image_b": b, "winner": winner, "user_id": user}
        for prompt, a, b, winner, user in (
            ("x", "1.png", "2.png", "a", 7),
            ("y", "1.png", "2.png", "b", 7),
            ("x", "2.png", "1.png", "b", 8),
            ("x", "1.png", "2.png", "b", None),
            ("x", "1.png", "2.png", "tie", 9),
        )
    ]
    first, other = read(write(tmp_path / "a.parquet", rows))
    assert (votes(first), votes(other)) == ((2, 1, 1), B)
    assert sorted(j.annotator or "" for j in first.judgements) == ["", "7", "8", "9"]


def test_zero_and_one_are_not_guessed(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}", "image_0": "a.png", "image_1": "b.png", "label": n} for n in (0, 1)]
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(InputError, check=at(f"{path}: 'label'", found="has 0 and 1", cure="0=first")):
        open_data(path)
    assert [votes(group) for group in read(path, "0=first")] == [A, B]
    assert [votes(group) for group in read(path, "1=first")] == [B, A]
    with pytest.warns(UserWarning, match="in 'label' 0 is the second image, 1 is the first image"):
        open_data(path, format="0=second")
    every = "prompt=prompt,first=image_0,second=image_1,winner=label,0=first"
    assert [votes(group) for group in open_data(path, format=every)] == [A, B]
    with pytest.raises(InputError, check=at("--columns", found="says 0=first, 1=first")):
        open_data(path, format="0=first,1=first")


def test_a_table_coded_1_and_2_may_begin_with_many_ones(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}", "image_a": "a.png", "image_b": "b.png", "label": 1 + n // 300} for n in range(310)]
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(InputError, check=at(f"{path}: 'label'", found="has 1,", cure="or 1=first,2=second")):
        open_data(path)
    with pytest.raises(RecordError, check=at("row 301: 'label'", cure="1=first,2=second")):
        read(path, "1=first")
    assert [votes(group) for group in read(path, "1=first,2=second")] == [A] * 300 + [B] * 10


@pytest.mark.parametrize(
    ("row", "columns", "found"),
    [
        (
            {"image_a": "x", "image_b": "y", "path_1": "x", "path_2": "y", "winner": "a"},
            "auto",
            "image_a and image_b, path_1 and",
        ),
        (
            {"image_a": "x", "image_b": "y", "votes_a": 1, "votes_b": 2, "label": "a"},
            "auto",
            "may say who won in label, votes_a",
        ),
        ({"image_a": "x", "image_b": "y"}, "auto", "has no column that says who won"),
        ({"image_a": "x", "winner": "a"}, "auto", "has no two columns that may be its images"),
        ({"image_a": "x", "image_b": "y", "winner": "a"}, "winner=winer", "has no column 'winer'"),
        ({"image_a": "x", "image_b": "y", "winner": "a"}, "wins=winner", "is no ROLE=NAME"),
    ],
)
def test_what_is_not_clear_is_asked(row: dict[str, Any], columns: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at(found=found)) as caught:
        open_data(write(tmp_path / "a.csv", [{"prompt": "x", **row}]), format=columns)
    assert "--columns" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        ({"winner": "c"}, "row 2: 'winner'", "is 'c'"),
        ({"winner": "3"}, "row 2: 'winner'", "is '3'"),
        ({"image_b": "a.png"}, "row 2: image_b", "names 'a.png' twice"),
        ({"prompt": " "}, "row 2: 'prompt'", "is ' '"),
        ({"image_a": ""}, "row 2: 'image_a'", "is ''"),
        ({"winner": "x" * 10**5}, "row 2: 'winner'", "xxx"),
    ],
)
def test_broken_rows(change: dict[str, Any], place: str, found: str, tmp_path: Path, cli: Cli) -> None:
    good = {"prompt": "x", "image_a": "a.png", "image_b": "b.png", "winner": "a"}
    path = write(tmp_path / "a.csv", [good, {**good, **change}, {**good, "prompt": "z"}])
    with pytest.raises(RecordError, check=at(f"{path}: {place}", found=found)):
        read(path)
    done = cli("data", "inspect", path, "--json", "--no-images")
    assert json.loads(done.stdout)["problems"] == {"broken row": 1}
    assert (json.loads(done.stdout)["groups"], done.returncode) == (2, 1)
    assert len(done.stdout) + len(done.stderr) < 6000


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_images_in_the_rows(kind: str, tmp_path: Path, cli: Cli, photographs: list[Image.Image]) -> None:
    rows = []
    for number in range(3):
        row: dict[str, Any] = {"prompt": f"cat {number}", "winner": "ab"[number % 2], "left": None, "right": None}
        for side, photograph in zip(("left", "right"), photographs, strict=False):
            file = tmp_path / f"{side}.png"
            photograph.crop((0, 0, 40 + number, 40)).save(file)
            data = file.read_bytes()
            row[side] = {"bytes": data, "path": None} if kind == "struct" else data
        rows.append(row)
    path = write(tmp_path / "choices.parquet", rows)
    done = cli("data", "inspect", path, "--decode", "--json")
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["groups"], facts["embedded_images"]) == (0, 3, 6), done.stderr
    out = tmp_path / "ours.parquet"
    assert cli("data", "convert", path, "--to", "parquet", "--out", out).returncode == 0
    groups = [*open_data(out)]
    assert [votes(group) for group in groups] == [A, B, A]
    assert [group.embedded[group.images[1]] for group in groups] == [
        row["right"]["bytes"] if kind == "struct" else row["right"] for row in rows
    ]
    done = cli("evaluate", "--data", path, "--scorer", "random", "--resamples", "200", "--out", tmp_path / "judged")
    assert done.returncode == 0, done.stderr


def test_one_style_of_options_everywhere(
    tmp_path: Path, cli: Cli, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inspect, convert and evaluate take the same words, and so does `train`."""
    for name in ("a.png", "b.png"):
        photographs["ab".index(name[0])].resize((50, 40)).save(tmp_path / name)
    rows = [{"text": f"a cat {n}", "x": "a.png", "y": "b.png", "z": n % 2} for n in range(6)]
    write(tmp_path / "odd.tsv", rows)
    columns = ("--columns", "first=x,second=y,winner=z,0=first,prompt=text")
    for words in (
        ("data", "inspect", "odd.tsv"),
        ("data", "convert", "odd.tsv", "--to", "pairs", "--out", "pairs"),
        ("evaluate", "--data", "odd.tsv", "--scorer", "random", "--resamples", "200", "--out", "judged"),
        ("train", "--recipe", "tiny", "--data", "odd.tsv", "--val", "odd.tsv", "--out", "runs", "--dry-run", "--json"),
    ):
        done = cli(*words, *columns, cwd=tmp_path)
        trains = words[0] == "train"
        assert done.returncode == 2 * trains, done.stderr
        assert ("shares prompts or images with the training data" in done.stderr) == trains
        assert "columns" not in done.stderr
    config = TrainConfig(data=("odd.csv",), validation="odd.csv", recipe=read_recipe("tiny"), out=tmp_path / "runs")
    write(
        tmp_path / "odd.csv", [{"prompt": r["text"], "image_a": "a.png", "image_b": "b.png", "best": "a"} for r in rows]
    )
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="by the names of its columns") as said:
        config.check()
    assert len(said) == 2
    with pytest.raises(InputError, check=at("validation", found="shares prompts")):
        read_data(config)  # without a word: they are open
    lines = [json.loads(line) for line in (tmp_path / "pairs/pairs.jsonl").read_text().splitlines()]
    assert [line["first_share"] for line in lines] == [1, 0, 1, 0, 1, 0]
