"""Nothing is lost on the way from one layout to another and back, or it is said what; and no half output is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.dataset.convert import convert
from hpskit.dataset.group import Group, Judgement
from hpskit.dataset.reading import open_data
from hpskit.dataset.split import split, write_split
from hpskit.errors import InputError, RecordError, shown
from preference_data import (
    HPDV3_ROW,
    IMAGEREWARD_ROW,
    TEST_ROW,
    TEXT,
    TRAIN_ROW,
    groups,
    pickapic_row,
    png,
    stored,
    without_place,
    write_json,
)

ONE_VOTE = st.sampled_from([(1, 2), (2, 1), (1, 1)]).map(lambda ranks: (Judgement(ranks=ranks),))
FEW_VOTES = st.lists(
    st.builds(
        Judgement,
        ranks=st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 1), (1, None), (2, 2)]),
        votes=st.integers(1, 2),
    ),
    max_size=3,
).map(tuple)
SHARES = st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 3)).map(
    lambda votes: tuple(
        Judgement(ranks=ranks, votes=n) for ranks, n in zip([(1, 2), (1, 1), (2, 1)], votes, strict=True) if n
    )
)


@st.composite
def ranked_whole(draw: st.DrawFn) -> Group:
    """A group that `test.json` can hold: all annotators rank all images, with ties, votes and a published order."""
    group = draw(groups())
    rank = st.integers(1, 6)
    ranks = st.lists(rank, min_size=len(group.images), max_size=len(group.images)).map(tuple)
    judgement = st.builds(Judgement, ranks=ranks, annotator=st.none() | TEXT, votes=st.integers(1, 3))
    return replace(
        draw(groups(described=False)),
        images=group.images,
        embedded=group.embedded,
        judgements=tuple(draw(st.lists(judgement, min_size=1, max_size=3))),
        rank=draw(st.none() | ranks),
    )


def pairs_with(judgements: st.SearchStrategy[tuple[Judgement, ...]]) -> st.SearchStrategy[Group]:
    return st.builds(lambda group, votes: replace(group, judgements=votes), groups(size=2, described=False), judgements)


HELD = {
    "hpdv2": ranked_whole(),
    "hpdv2-train": pairs_with(ONE_VOTE),
    "pairs": pairs_with(SHARES),
    "jsonl": groups(),
    "parquet": groups(),
}
"""Target -> groups that it can hold."""


def meant(found: Iterable[Group]) -> list[Group]:
    """The groups without places, bytes, and the order in which votes are written down."""
    return [
        replace(
            group,
            place="",
            embedded={},
            judgements=tuple(sorted((replace(j, votes=1) for j in group.judgements for _ in range(j.votes)), key=repr)),
        )
        for group in found
    ]


def written(group: Group, to: str) -> Group:
    """`test.json` must publish an order: where there is none, that of the means."""
    if to != "hpdv2" or group.rank is not None:
        return group
    order = group.consensus()
    return replace(group, rank=tuple(1 + int((order < mean).sum()) for mean in order))


def out_of(folder: str, to: str, number: int) -> Path:
    return Path(folder) / (f"{number}.parquet" if to == "parquet" else str(number))


@pytest.fixture(autouse=True, scope="module")
def no_sync() -> Iterator[None]:
    """The disk of a busy machine takes a second for each `sync`, and hypothesis writes hundreds of folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sync", lambda: None)
        yield


@pytest.mark.parametrize("to", HELD)
@settings(max_examples=10)
@given(data=st.data())
def test_what_a_layout_can_hold_goes_there_and_on_and_comes_back(to: str, data: st.DataObject) -> None:
    """By way of it to all that can hold everything, and back to it."""
    made = data.draw(st.lists(HELD[to], min_size=1, max_size=3, unique_by=lambda group: group.id or id(group)))
    expected = meant(written(group, to) for group in made)
    with tempfile.TemporaryDirectory() as folder:
        source = stored(Path(folder) / "a.parquet", made)
        there = out_of(folder, to, 1)
        assert convert(source, to, there, images=False).lost == {}
        assert meant(open_data(there)) == expected
        for number, through in enumerate(("jsonl", "parquet"), 2):
            convert(open_data(there), through, out_of(folder, through, number), images=False)
            assert meant(open_data(out_of(folder, through, number))) == expected
            back = out_of(folder, to, number + 10)
            convert(open_data(out_of(folder, through, number)), to, back, images=False)
            assert meant(open_data(back)) == expected


@pytest.mark.parametrize("to", ["hpdv2", "hpdv2-train", "jsonl", "pairs", "parquet"])
@settings(max_examples=40)
@given(made=st.one_of(pairs_with(FEW_VOTES), pairs_with(FEW_VOTES), groups(), ranked_whole()).map(lambda one: [one]))
def test_a_conversion_is_whole_or_refused_and_never_refused_for_nothing(to: str, made: list[Group]) -> None:
    expected = meant(written(group, to) if group.judgements else group for group in made)
    with tempfile.TemporaryDirectory() as folder:
        source, out = stored(Path(folder) / "a.parquet", made), out_of(folder, to, 1)
        try:
            convert(source, to, out, images=False)
        except InputError as error:
            what = error.found.partition("has no place for ")[2]
            assert convert(source, to, out, images=False, allow_loss=True).lost[what]
            try:
                found = meant(open_data(out))
            except InputError:  # nothing is left
                found = []
            assert found != expected
        else:
            assert meant(open_data(out)) == expected


def test_the_test_set_of_hpdv2_comes_back_with_its_images(inputs: Path, tmp_path: Path) -> None:
    data = open_data(inputs / "HPDv2")
    done = convert(data, "parquet", tmp_path / "sample.parquet")
    assert (done.groups, done.images, done.lost) == (12, 48, {})
    done = convert(open_data(tmp_path / "sample.parquet"), "hpdv2", tmp_path / "back")
    assert (done.groups, done.images) == (12, 48)
    original, copy = (json.loads((root / "test.json").read_bytes()) for root in (data.path, tmp_path / "back"))
    assert original == copy
    for path in (tmp_path / "back/test").iterdir():
        assert path.read_bytes() == (data.image_root / path.name).read_bytes()


@pytest.mark.parametrize("row", [IMAGEREWARD_ROW, HPDV3_ROW, None], ids=["imagereward", "hpdv3", "pickapic"])
def test_other_layouts_are_kept_whole(tmp_path: Path, row: dict[str, Any] | None) -> None:
    if row is not None:
        data = open_data(write_json(tmp_path / "a.json", [row]))
    else:
        rows = [pickapic_row(), pickapic_row(has_label=False), pickapic_row(image_1_uid="u1", jpg_1=png(1))]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        data = open_data(tmp_path / "a.parquet")
    convert(data, "parquet", tmp_path / "ours.parquet", images=row is None)
    assert without_place(open_data(tmp_path / "ours.parquet")) == without_place(data)
    convert(data, "jsonl", tmp_path / "lines", images=row is None)
    assert without_place(open_data(tmp_path / "lines")) == [replace(g, embedded={}) for g in without_place(data)]
    if row is None:
        assert (tmp_path / "lines/images/u2.jpg").read_bytes() == png(2)


ONE = Group(place="", prompt="p", images=("a", "b"), judgements=(Judgement(ranks=(1, 2), annotator="u"),))
PAIRS_LOSE = {"names of groups", "sources", "categories", "field seed", "annotators"}
LOSSES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("hpdv2", {}, PAIRS_LOSE - {"annotators"}),
    ("hpdv2", {"judgements": (Judgement(ranks=(1, None)),), "rank": (1, 2)}, {"partial rankings (left out)"}),
    ("hpdv2", {"judgements": ()}, {"groups with images that nobody ranked (left out)"}),
    ("hpdv2-train", {}, PAIRS_LOSE),
    ("hpdv2-train", {"rank": (1, 2)}, {"published orders"}),
    ("hpdv2-train", {"rank": (1, 2), "judgements": ()}, {"that orders are published ones (written as one vote)"}),
    ("hpdv2-train", {"judgements": (Judgement(ranks=(2, 5)),)}, {"ranks other than 1 and 2 (their order is written)"}),
    (
        "hpdv2-train",
        {"judgements": (Judgement(ranks=(1, 2), votes=2),)},
        {"which judgements are of one group (written as rows of their own)"},
    ),
    ("pairs", {}, PAIRS_LOSE),
    ("pairs", {"judgements": ()}, {"groups that nobody judged (left out)"}),
    (
        "pairs",
        {"judgements": (Judgement(ranks=(1, 1), votes=2),)},
        {"how many votes are ties (their half votes are written)"},
    ),
    (
        "pairs",
        {"judgements": (Judgement(ranks=(1, 2)), Judgement(ranks=(1, None)))},
        {"partial rankings (the images left out are in no pair)"},
    ),
]


@pytest.mark.parametrize(("to", "change", "lost"), LOSSES)
def test_what_the_target_cannot_hold_is_named(tmp_path: Path, to: str, change: dict[str, Any], lost: set[str]) -> None:
    described = {"id": "x", "sources": ("x", "y"), "category": "photo", "meta": {"seed": 3}}
    data = stored(tmp_path / "a.parquet", [replace(ONE, **(change or described))])
    with pytest.raises(InputError, check=at("a.parquet: row 1", found=f"{to} has no place for ", cure="--allow-loss")):
        convert(data, to, tmp_path / "out", images=False)
    assert not (tmp_path / "out").exists()
    found = convert(data, to, tmp_path / "out", images=False, allow_loss=True).lost
    assert lost <= found.keys()
    assert set(found.values()) == {1}


def test_groups_of_one_name_are_two_groups(tmp_path: Path) -> None:
    """In `rankings.jsonl` one name is one group: written there under it they would be read as one, or not at all."""
    group = Group(place="", prompt="p", images=("a", "b"), judgements=(Judgement(ranks=(1, 2)),), id="x")
    data = stored(tmp_path / "a.parquet", [group, group])
    with pytest.raises(InputError, check=at("row 2", found="jsonl has no place for names that an earlier group has")):
        convert(data, "jsonl", tmp_path / "out", images=False)
    convert(data, "jsonl", tmp_path / "out", images=False, allow_loss=True)
    assert without_place(open_data(tmp_path / "out")) == [group, replace(group, id=None)]


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "a\\b.png"])
def test_no_image_is_written_outside_the_folder(tmp_path: Path, name: str) -> None:
    group = Group(place="", prompt="p", images=(name, "b"), embedded={name: png(1), "b": png(2)})
    data = stored(tmp_path / "a.parquet", [group])
    with pytest.raises(InputError, check=at("row 1: image ", found="would lie outside the new folder")):
        convert(data, "jsonl", tmp_path / "deep/out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.parquet"]


@pytest.mark.parametrize("name", ["{there}/private.png", "../private.png", "link.png"])
def test_a_strangers_data_set_takes_no_file_of_mine_along(tmp_path: Path, name: str) -> None:
    """Neither by a path nor by a link; with `--allow-outside` an image, but nothing else."""
    name = name.format(there=tmp_path)
    rows = [{**TRAIN_ROW, "file_path": ["a.png", name]}, {"prompt": "a dog", "file_path": ["b.png", "c.png"]}]
    path = write_json(tmp_path / "theirs/train.json", [TRAIN_ROW | row for row in rows])
    for number, own in enumerate("abc", 2):
        (tmp_path / f"theirs/{own}.png").write_bytes(png(number))
    (tmp_path / "theirs/link.png").symlink_to("../private.png")
    (tmp_path / "private.png").write_bytes(png(1))
    data, allowed = open_data(path), open_data(path, allow_outside=True)
    for take in (
        lambda: convert(data, "parquet", tmp_path / "a.parquet"),
        lambda: convert(data, "hpdv2-train", tmp_path / "lines"),
        lambda: write_split(data, split(allowed, share=0.5, pixels=False), tmp_path / "parts"),
    ):
        with pytest.raises(InputError, check=at(f"entry 1 (line 2): image {shown(name)}", found=" outside ")):
            take()
    convert(allowed, "parquet", tmp_path / "a.parquet")
    assert next(iter(open_data(tmp_path / "a.parquet"))).embedded[name] == png(1)
    (tmp_path / "private.png").write_text("secret")
    with pytest.raises(RecordError, check=at(f"image {shown(name)}", found="is not an image")):
        convert(allowed, "parquet", tmp_path / "b.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "private.png", "theirs"]


def test_two_images_of_one_name_are_an_error(tmp_path: Path) -> None:
    pictures = [{"a": png(1), "b": png(2)}, {"a": png(3), "b": png(2)}]
    made = [Group(place="", prompt="p", images=("a", "b"), embedded=embedded) for embedded in pictures]
    with pytest.raises(InputError, check=at("row 2: image 'a'", found="is not the one of that name")):
        convert(stored(tmp_path / "a.parquet", made), "jsonl", tmp_path / "out")


def test_a_missing_image_stops_a_conversion_with_images(tmp_path: Path) -> None:
    data = open_data(write_json(tmp_path / "test.json", [TEST_ROW]))
    for to, out in (("parquet", "a.parquet"), ("jsonl", "out")):
        with pytest.raises(RecordError, check=at("entry 1 (line 2): image 'a.jpg'", found="No such file")):
            convert(data, to, tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == ["test.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize(("to", "out"), [("jsonl", "out"), ("parquet", "out.parquet")])
def test_a_killed_conversion_leaves_nothing_and_can_be_run_again(tmp_path: Path, to: str, out: str) -> None:
    """It is killed in the middle: after the second of four groups it says so and waits."""
    data = open_data(write_json(tmp_path / "test.json", [TEST_ROW] * 4))
    target = tmp_path / "work" / out
    code = (
        "import time\nfrom pathlib import Path\n"
        "from hpskit.dataset.convert import convert\nfrom hpskit.dataset.reading import open_data\n"
        "def wait(done):\n    if done == 2:\n        print('half', flush=True)\n        time.sleep(600)\n"
        f"convert(open_data({str(data.path)!r}), {to!r}, Path({str(target)!r}), images=False, progress=wait)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    left = [path.name for path in target.parent.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(f".{out}.")
    convert(data, to, target, images=False)
    assert len([*open_data(target)]) == 4
    assert [path.name for path in target.parent.iterdir()] == [out]  # what was left behind is swept away
