"""The sequence of examples is the same whoever reads it, from any layout, and from any point at which it is resumed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpskit.dataset.convert import convert
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group, Judgement, pairs
from hpskit.dataset.reading import DataSet, open_data
from hpskit.errors import InputError, RecordError
from hpskit.pixels import Preprocessing, to_tensor
from hpskit.training import catalogue, order
from hpskit.training.batch import Batch
from hpskit.training.examples import Loader, Source, Stream, batches
from hpskit.training.order import Deck, Plan, epoch_order
from preference_data import TRAIN_ROW, png, write_json

SMALL = Preprocessing(size=8)
SERIAL = Loader(preprocessing=SMALL, workers=0)


def made_groups(count: int, *, size: int | None = None) -> list[Group]:
    """Groups of two to four images, judged in part by several people; one in five by nobody."""
    draw = np.random.default_rng(7)
    groups = []
    for number in range(count):
        images = tuple(f"{number}-{n}.png" for n in range(size or draw.integers(2, 5)))
        ranks = [tuple(int(rank) for rank in draw.integers(1, 4, len(images))) for _ in range(3)]
        judgements = [Judgement(ranks=r, votes=int(draw.integers(1, 4))) for r in ranks]
        judgements.append(Judgement(ranks=(1, None, 2, 2)[: len(images)]))
        groups.append(
            Group(
                place="",
                prompt=f"prompt {number}",
                images=images,
                judgements=() if number % 5 == 4 else tuple(judgements),
                embedded={name: png(17 * number + n) for n, name in enumerate(images)},
            )
        )
    return groups


def stored(path: Path, groups: Iterable[Group]) -> DataSet:
    with ParquetWriter(path) as writer:
        for group in groups:
            writer.write(group)
            if len(writer._rows) == 7:  # several row groups
                writer._flush()
    return open_data(path)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataSet]:
    """The same groups with their images in rows, as files, and in tar files."""
    folder = tmp_path_factory.mktemp("layouts")
    data = stored(folder / "rows.parquet", made_groups(40))
    convert(data, "jsonl", folder / "files")
    return {"rows": data, "files": open_data(folder / "files")}


def streamed(data: DataSet | Sequence[Source], **changes: Any) -> Stream:
    sources = [Source(data=data)] if isinstance(data, DataSet) else data
    settings = {"pairs": 12, "seed": 3, **changes}
    loader = {name: settings.pop(name) for name in (*settings,) if name in Loader.__slots__}
    return Stream(sources, Loader(**{"preprocessing": SMALL, "workers": 0, **loader}), **settings)


def taken(stream: Stream, count: int) -> list[Batch]:
    return [*itertools.islice(stream, count)]


def same(one: Batch, other: Batch) -> bool:
    tensors = ("pixels", "group", "first", "second", "share", "votes", "weight")
    return one.prompts == other.prompts and all(torch.equal(getattr(one, n), getattr(other, n)) for n in tensors)


@st.composite
def decks(draw: st.DrawFn) -> Deck:
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    return Deck(
        pairs=np.array(draw(st.lists(st.integers(1, 6), min_size=sum(counts), max_size=sum(counts)))),
        starts=np.cumsum([0, *counts]),
        sizes=np.array(draw(st.lists(st.integers(0, order._WINDOW), min_size=len(counts), max_size=len(counts)))),
    )


@given(decks(), st.integers(0, 9), st.integers(0, 3))
def test_an_epoch_has_every_group_once_and_each_block_within_one_window(deck: Deck, seed: int, epoch: int) -> None:
    found = epoch_order(deck, seed=seed, source=0, epoch=epoch)
    assert sorted(found) == [*range(len(deck.pairs))]
    blocks = np.searchsorted(deck.starts, found, side="right") - 1
    for start, end in itertools.pairwise([*np.flatnonzero(_first_of_window(blocks)), len(blocks)]):
        inside = set(blocks[start:end].tolist())
        size = deck.sizes[[*inside]].sum()
        assert size <= order._WINDOW or len(inside) == 1


def _first_of_window(blocks: np.ndarray) -> np.ndarray:
    """Where everything before is of other blocks than everything after."""
    return np.array([not set(blocks[:n].tolist()) & set(blocks[n:].tolist()) for n in range(len(blocks))])


def test_the_order_of_files_is_any_order_and_another_one_each_time() -> None:
    deck = Deck(pairs=np.ones(4, dtype=np.int64), starts=np.array([0, 4]), sizes=np.array([0]))
    seen = {tuple(epoch_order(deck, seed=seed, source=0, epoch=0).tolist()) for seed in range(400)}
    assert len(seen) == 24
    found = [epoch_order(deck, seed=1, source=s, epoch=e).tolist() for s, e in [(0, 0), (0, 1), (1, 0)]]
    assert found[0] != found[1] != found[2] != found[0]


def test_the_order_is_the_same_in_every_release() -> None:
    """A run that was begun with one release of NumPy and hpskit is resumed with another."""
    deck = Deck(pairs=np.ones(8, dtype=np.int64), starts=np.array([0, 3, 8]), sizes=np.array([0, 0]))
    assert epoch_order(deck, seed=16, source=0, epoch=2).tolist() == [7, 5, 3, 4, 1, 2, 0, 6]


@given(st.lists(decks(), min_size=1, max_size=3), st.data())
def test_ratios_are_kept_at_any_moment(sources: list[Deck], data: st.DataObject) -> None:
    ratios = data.draw(st.lists(st.floats(0.1, 10), min_size=len(sources), max_size=len(sources)))
    plan = Plan(sources, ratios, pairs=data.draw(st.integers(1, 20)), seed=0)
    for batch, position in itertools.islice(plan.follow(plan.start), 12):
        sizes = [int(sources[source].pairs[group]) for source, group in batch]
        assert sum(sizes) - sizes[-1] < plan.pairs <= sum(sizes)  # no more than it takes
        total = sum(position.pairs)
        for drawn, ratio in zip(position.pairs, ratios, strict=True):
            assert abs(drawn - total * ratio / sum(ratios)) <= 6 * len(sources)  # a group has six pairs at most


@given(decks(), st.integers(0, 8))
def test_a_plan_goes_on_from_any_position(deck: Deck, batches: int) -> None:
    plan = Plan([deck], [1.0], pairs=5, seed=2)
    whole = [*itertools.islice(plan.follow(plan.start), 12)]
    position = whole[batches - 1][1] if batches else plan.start
    assert [*itertools.islice(Plan([deck], [1.0], pairs=5, seed=2).follow(position), 12 - batches)] == whole[batches:]


def test_a_batch_is_what_the_data_say(layouts: dict[str, DataSet]) -> None:
    data = layouts["files"]
    by_prompt = {group.prompt: group for group in data}
    for batch in taken(streamed(data), 8):
        assert batch.pixels.dtype == torch.float32
        at, pair = 0, 0
        for number, (prompt, place) in enumerate(zip(batch.prompts, batch.places, strict=True)):
            group = by_prompt[prompt]
            assert place == group.place
            for name in group.images:
                assert torch.equal(batch.pixels[at], SMALL(to_tensor(data.image_path(name))))
                assert batch.group[at] == number
                at += 1
            for expected in pairs(group):
                first, second = (
                    at - len(group.images) + group.images.index(n) for n in (expected.first, expected.second)
                )
                assert (batch.first[pair], batch.second[pair]) == (first, second)
                assert (batch.share[pair].item(), batch.votes[pair]) == (
                    pytest.approx(expected.first_share),
                    expected.votes,
                )
                pair += 1
            assert batch.judged[number].sum() == sum(j.votes for j in group.judgements)
            assert len(batch.ranks[number].unique(dim=0)) == len(batch.ranks[number])
        assert (at, pair) == (len(batch.pixels), len(batch.share))
        assert torch.equal(batch.sizes, torch.bincount(batch.group))
        assert not batch.dropped


def test_an_epoch_has_every_judged_group_once(layouts: dict[str, DataSet]) -> None:
    for data in layouts.values():
        stream = streamed(data, pairs=1)  # batches of one group
        assert stream.groups == (32,)
        prompts = [batch.prompts[0] for batch in taken(stream, 64)]
        judged = sorted(group.prompt for group in data if group.judgements)
        assert sorted(prompts[:32]) == sorted(prompts[32:]) == judged
        assert prompts[:32] != prompts[32:]


def test_files_and_rows_hold_the_same(layouts: dict[str, DataSet]) -> None:
    assert len({streamed(data).digests for data in layouts.values()}) == 1
    one, two = ([*batches(data, SERIAL, pairs=12)] for data in layouts.values())
    assert all(map(same, one, two))
    assert len(one) == len(two)
    assert sum(len(batch.prompts) for batch in one) == 32


@pytest.mark.parametrize("layout", ["rows", "files"])
def test_workers_and_processes_change_nothing(layouts: dict[str, DataSet], layout: str) -> None:
    data = layouts[layout]
    expected = taken(streamed(data), 9)
    for workers in (1, 3):
        assert all(map(same, expected, taken(streamed(data, workers=workers), 9)))
    ranks = [taken(streamed(data, rank=rank, world=2, workers=rank), 9) for rank in range(2)]
    for whole, *mine in zip(expected, *ranks, strict=True):
        for rank, part in enumerate(mine):
            assert part.prompts == whole.prompts[rank::2]
        images = [list(part.pixels.split(part.sizes.tolist())) for part in mine]
        again = [images[n % 2][n // 2] for n in range(len(whole.prompts))]
        assert torch.equal(torch.cat(again), whole.pixels)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("layout", ["rows", "files"])
def test_it_goes_on_where_it_stopped(layouts: dict[str, DataSet], layout: str, workers: int) -> None:
    """In a new process: all it has is what was written down. Two data sets, beyond the end of an epoch."""
    sources = [Source(data=layouts[layout], ratio=2), Source(data=layouts["files"], ratio=1)]
    whole, positions = [], []
    stream = streamed(sources)
    for batch in itertools.islice(stream, 30):
        whole.append(batch)
        positions.append(json.loads(json.dumps(stream.position())))
    assert positions[-1]["groups"][0] > stream.groups[0]
    for done in (1, 17, 29):
        fresh = streamed(sources, workers=workers)
        fresh.restore(positions[done - 1])
        assert all(map(same, whole[done:], taken(fresh, 30 - done)))
        assert fresh.position() == positions[-1]


def test_a_position_elsewhere_is_refused(layouts: dict[str, DataSet], tmp_path: Path) -> None:
    stream = streamed(layouts["rows"])
    taken(stream, 2)
    other = stored(tmp_path / "other.parquet", made_groups(38))
    for changed, what in [
        (streamed(other), "data"),
        (streamed(layouts["rows"], seed=4), "seed"),
        (streamed(layouts["rows"], pairs=13), "batch"),
        (streamed([Source(data=layouts["rows"], ratio=3)]), "ratios"),
    ]:
        with pytest.raises(InputError, match=f"position: {what} was .*, is .*; resume with what"):
            changed.restore(stream.position())


def test_a_batch_of_pairs_is_as_large_as_asked_for(tmp_path: Path) -> None:
    data = stored(tmp_path / "pairs.parquet", made_groups(50, size=2))
    for batch in taken(streamed(data, pairs=16), 6):
        assert (len(batch.prompts), len(batch.share), len(batch.pixels)) == (16, 16, 32)


def test_memory_is_bounded_where_images_are_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two parts of seven: only a window of one part is mixed, and each part is read once an epoch."""
    data = stored(tmp_path / "rows.parquet", made_groups(49))
    size = max(part.size for part in data.parts())
    monkeypatch.setattr(order, "_WINDOW", size)
    monkeypatch.setattr(catalogue, "_HELD", 2 * size)
    reads, read_part = [], DataSet.read_part

    def counted(self: DataSet, part: Any) -> Any:
        reads.append(part.place)
        return read_part(self, part)

    monkeypatch.setattr(DataSet, "read_part", counted)
    stream = streamed(data, pairs=1)
    prompts = [batch.prompts[0] for batch in taken(stream, stream.groups[0])]
    assert len(set(prompts)) == len(prompts)
    assert len(reads) == len(set(reads)) == len(data.parts()) == 7


def spoiled(folder: Path) -> DataSet:
    """Six pairs as files, the third image cut off and the eighth gone."""
    rows = [{**TRAIN_ROW, "prompt": f"p{n}", "file_path": [f"{n}a.png", f"{n}b.png"]} for n in range(6)]
    for number, name in enumerate(name for row in rows for name in row["file_path"]):
        (folder / name).write_bytes(png(number))
    (folder / "1a.png").write_bytes(png(2)[:45])
    (folder / "3b.png").unlink()
    return open_data(write_json(folder / "train.json", rows))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_an_error_that_names_the_row(tmp_path: Path, workers: int) -> None:
    data = spoiled(tmp_path)
    with pytest.raises(RecordError, match=r"train.json: entry [24] \(line \d+\): image '(1a|3b).png': .*"):
        taken(streamed(data, pairs=2, workers=workers), 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_dropped_with_their_group_and_counted(tmp_path: Path, workers: int) -> None:
    found = taken(streamed(spoiled(tmp_path), pairs=1, workers=workers, on_broken="drop"), 6)
    assert sorted(len(batch.prompts) for batch in found) == [0, 0, 1, 1, 1, 1]
    for batch in found:
        assert batch.dropped == 1 - len(batch.prompts)
        assert batch.pixels.shape == (2 * len(batch.prompts), 3, 8, 8)
    lines = sorted(line for batch in found for line in batch.broken)
    assert "entry 2 (line" in lines[0]
    assert "image '3b.png'" in lines[1]


def test_groups_can_be_left_out(layouts: dict[str, DataSet]) -> None:
    for data in layouts.values():
        leave = [group.place for group in data.outline() if group.judgements][::2]
        stream = streamed(data, without=leave, pairs=1)
        assert stream.groups == (16,)
        assert not {batch.places[0] for batch in taken(stream, 16)} & {*leave}
        with pytest.raises(InputError, match=r"no group in which somebody compared two images; .*remove fewer"):
            streamed(data, without=[group.place for group in data.outline()])


def test_groups_may_have_weights(tmp_path: Path) -> None:
    lines = [{"group": n, "prompt": f"p{n}", "images": ["a.png", "b.png"], "ranks": [1, 2]} for n in range(3)]
    lines[1]["meta"] = {"weight": 2.5}
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(len(name)))
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [batch] = taken(streamed(open_data(path), pairs=3), 1)
    assert dict(zip(batch.prompts, batch.weight.tolist(), strict=True)) == {"p0": 1, "p1": 2.5, "p2": 1}
    lines[2]["meta"] = {"weight": 0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RecordError, match=r"rankings.jsonl: line 3: weight is 0, expected a number above 0"):
        streamed(open_data(path))


def test_validation_has_every_judged_group_once_over_all_processes(layouts: dict[str, DataSet]) -> None:
    data = layouts["rows"]
    judged = [group.prompt for group in data if group.judgements]
    for world in (1, 3):
        ranks = [
            [
                prompt
                for batch in batches(data, Loader(preprocessing=SMALL, rank=rank, world=world), pairs=9)
                for prompt in batch.prompts
            ]
            for rank in range(world)
        ]
        assert ranks == [judged[rank::world] for rank in range(world)]


def test_a_process_may_get_nothing_of_a_batch(layouts: dict[str, DataSet]) -> None:
    """A batch of one group, and two processes: the second has no images, and goes on with the others."""
    (judged, *_) = layouts.values()
    both = [taken(streamed(judged, pairs=1, rank=rank, world=2), 3) for rank in range(2)]
    assert [len(batch.prompts) for batch in both[0]] == [1, 1, 1]
    assert [(len(batch.prompts), len(batch.pixels), len(batch.first)) for batch in both[1]] == [(0, 0, 0)] * 3


REFUSED: list[tuple[Callable[[DataSet], object], str]] = [
    (lambda data: streamed([]), "data: is empty"),
    (lambda data: streamed([Source(data=data, ratio=1), Source(data=data)]), "ratio: given for 1 of 2 data sets"),
    (lambda data: streamed([Source(data=data, ratio=-1)]), "ratio: is -1, expected a number above 0"),
    (lambda data: streamed(data, pairs=0), "pairs: is 0, expected at least 1"),
    (lambda data: streamed(data, workers=-1), "workers: is -1, expected 0 or more"),
    (lambda data: streamed(data, rank=2, world=2), "rank: is 2 of 2 processes"),
    (lambda data: streamed(data).restore(streamed(data).position() | {"groups": 3}), "position: is "),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_bad_settings_are_refused(layouts: dict[str, DataSet], call: Callable[[DataSet], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(layouts["files"])


def test_data_that_change_under_a_run_are_an_error(tmp_path: Path) -> None:
    data = stored(tmp_path / "a.parquet", made_groups(7))
    stream = streamed(data)
    stored(tmp_path / "a.parquet", made_groups(8)[1:])
    with pytest.raises(InputError, match="row group 0: was changed since it was first read"):
        taken(stream, 1)
