"""The sequence of examples is the same whoever reads it, from any layout, and from any point at which it is resumed."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.dataset.convert import convert
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group, Judgement, compared
from hpskit.dataset.reading import DataSet, open_data
from hpskit.errors import InputError, RecordError
from hpskit.pixels import Preprocessing, to_tensor
from hpskit.training import data as data_module
from hpskit.training import loader as loader_module
from hpskit.training.data import PreferenceDataset
from hpskit.training.loader import Batch, DataLoader, Decoder, epoch_order, sample, validation_batches
from preference_data import TRAIN_ROW, png, write_json

SMALL = Preprocessing(size=8)
DECODER = Decoder(preprocessing=SMALL, workers=0)


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
    """The same groups with their images in rows, and as files."""
    folder = tmp_path_factory.mktemp("layouts")
    data = stored(folder / "rows.parquet", made_groups(40))
    convert(data, "jsonl", folder / "files")
    return {"rows": data, "files": open_data(folder / "files")}


def loader_of(
    *data: DataSet, pairs: int = 12, seed: int = 3, ratios: tuple[float, ...] = (), without: Any = (), **decoder: Any
) -> DataLoader:
    datasets = [PreferenceDataset(one, without=without) for one in data]
    return DataLoader(
        datasets, replace(DECODER, **decoder), ratios=ratios or [None] * len(data), pairs=pairs, seed=seed
    )


def taken(loader: DataLoader, count: int) -> list[Batch]:
    return [*itertools.islice(loader, count)]


def same(one: Batch, other: Batch) -> bool:
    tensors = [(b.pixels, b.group, *b.pairs, b.weight) for b in (one, other)]
    return one.prompts == other.prompts and all(map(torch.equal, *tensors))


@st.composite
def blocks(draw: st.DrawFn) -> Any:
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    sizes = st.lists(st.integers(0, loader_module._WINDOW), min_size=len(counts), max_size=len(counts))
    return SimpleNamespace(
        pairs=np.array(draw(st.lists(st.integers(1, 6), min_size=sum(counts), max_size=sum(counts)))),
        starts=np.cumsum([0, *counts]),
        sizes=np.array(draw(sizes)),
    )


@given(blocks(), st.integers(0, 9), st.integers(0, 3))
def test_an_epoch_has_every_group_once_and_each_block_within_one_window(data: Any, seed: int, epoch: int) -> None:
    found = epoch_order(data, seed=seed, source=0, epoch=epoch)
    assert sorted(found) == [*range(len(data.pairs))]
    order = np.searchsorted(data.starts, found, side="right") - 1
    # A window begins where everything before is of other blocks than everything after.
    firsts = [n for n in range(len(order)) if not set(order[:n].tolist()) & set(order[n:].tolist())]
    for start, end in itertools.pairwise([*firsts, len(order)]):
        inside = set(order[start:end].tolist())
        assert data.sizes[[*inside]].sum() <= loader_module._WINDOW or len(inside) == 1


def test_the_order_is_the_same_in_every_release() -> None:
    """A run that was begun with one release of NumPy and hpskit is resumed with another."""
    data: Any = SimpleNamespace(pairs=np.ones(8), starts=np.array([0, 3, 8]), sizes=np.array([0, 0]))
    assert epoch_order(data, seed=16, source=0, epoch=2).tolist() == [7, 5, 3, 4, 1, 2, 0, 6]


@given(st.lists(blocks(), min_size=1, max_size=3), st.data())
def test_ratios_are_kept_at_any_moment(sources: list[Any], data: st.DataObject) -> None:
    ratios = data.draw(st.lists(st.floats(0.1, 10), min_size=len(sources), max_size=len(sources)))
    pairs = data.draw(st.integers(1, 20))
    start = {name: [0] * len(sources) for name in ("groups", "pairs")}
    for batch, state in itertools.islice(sample(sources, ratios, start, pairs=pairs, seed=0), 12):
        sizes = [int(sources[source].pairs[group]) for source, group in batch]
        assert sum(sizes) - sizes[-1] < pairs <= sum(sizes)  # no more than it takes
        total = sum(state["pairs"])
        for drawn, ratio in zip(state["pairs"], ratios, strict=True):
            assert abs(drawn - total * ratio / sum(ratios)) <= 6 * len(sources)  # a group has six pairs at most


def test_a_batch_is_what_the_data_say(layouts: dict[str, DataSet]) -> None:
    data = layouts["files"]
    by_prompt = {group.prompt: group for group in data}
    for batch in taken(loader_of(data), 8):
        assert batch.pixels.dtype == torch.float32
        at_image, pair = 0, 0
        one, other, shares, votes = batch.pairs
        for number, example in enumerate(batch.examples):
            group = by_prompt[example.prompt]
            assert example.place == group.place
            for name in group.images:
                assert torch.equal(batch.pixels[at_image], SMALL(to_tensor(data.image_path(name))))
                assert batch.group[at_image] == number
                at_image += 1
            start = at_image - len(group.images)
            for first, second, wins, losses, ties in compared(group):
                count = wins + losses + ties
                assert (one[pair], other[pair], votes[pair]) == (start + first, start + second, count)
                assert shares[pair].item() == pytest.approx((wins + ties / 2) / count)
                pair += 1
            assert example.votes.sum() == sum(j.votes for j in group.judgements)
            assert len(np.unique(example.ranks, axis=0)) == len(example.ranks)
        assert (at_image, pair) == (len(batch.pixels), len(shares))
        assert not batch.dropped


@pytest.mark.parametrize("layout", ["rows", "files"])
def test_an_epoch_has_every_judged_group_once(layouts: dict[str, DataSet], layout: str) -> None:
    loader = loader_of(layouts[layout], pairs=1)  # batches of one group
    assert len(loader.datasets[0]) == 32
    prompts = [batch.prompts[0] for batch in taken(loader, 64)]
    judged = sorted(group.prompt for group in layouts[layout] if group.judgements)
    assert sorted(prompts[:32]) == sorted(prompts[32:]) == judged
    assert prompts[:32] != prompts[32:]


def test_files_and_rows_hold_the_same(layouts: dict[str, DataSet]) -> None:
    assert len({PreferenceDataset(data).digest for data in layouts.values()}) == 1
    one, two = ([*validation_batches(data, DECODER, pairs=12)] for data in layouts.values())
    assert all(map(same, one, two))
    assert sum(len(batch.prompts) for batch in one) == sum(len(batch.prompts) for batch in two) == 32


@pytest.mark.parametrize("layout", ["rows", "files"])
def test_workers_and_processes_change_nothing(layouts: dict[str, DataSet], layout: str) -> None:
    data = layouts[layout]
    expected = taken(loader_of(data), 9)
    for workers in (1, 3):
        assert all(map(same, expected, taken(loader_of(data, workers=workers), 9)))
    ranks = [taken(loader_of(data, rank=rank, world=2, workers=rank), 9) for rank in range(2)]
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
    sources = (layouts[layout], layouts["files"])
    whole, states = [], []
    loader = loader_of(*sources, ratios=(2, 1))
    for batch in itertools.islice(loader, 30):
        whole.append(batch)
        states.append(json.loads(json.dumps(loader.state_dict())))
    assert states[-1]["groups"][0] > len(loader.datasets[0])
    for done in (1, 17, 29):
        fresh = loader_of(*sources, ratios=(2, 1), workers=workers)
        fresh.load_state_dict(states[done - 1])
        assert all(map(same, whole[done:], taken(fresh, 30 - done)))
        assert fresh.state_dict() == states[-1]


def test_memory_is_bounded_where_images_are_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two parts of seven: only a window of one part is mixed, and each part is read once an epoch."""
    data = stored(tmp_path / "rows.parquet", made_groups(49))
    size = max(part.size for part in data.parts())
    monkeypatch.setattr(loader_module, "_WINDOW", size)
    monkeypatch.setattr(data_module, "_HELD", 2 * size)
    reads, read_part = [], DataSet.read_part

    def counted(self: DataSet, part: Any) -> Any:
        reads.append(part.place)
        return read_part(self, part)

    monkeypatch.setattr(DataSet, "read_part", counted)
    loader = loader_of(data, pairs=1)
    prompts = [batch.prompts[0] for batch in taken(loader, len(loader.datasets[0]))]
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
def test_a_broken_image_is_an_error_or_drops_its_group(tmp_path: Path, workers: int) -> None:
    data = spoiled(tmp_path)
    with pytest.raises(RecordError, check=at("train.json: entry", cure="--on-broken drop")):
        taken(loader_of(data, pairs=2, workers=workers), 3)
    found = taken(loader_of(data, pairs=1, workers=workers, on_broken="drop"), 6)
    assert sorted(len(batch.prompts) for batch in found) == [0, 0, 1, 1, 1, 1]
    for batch in found:
        assert batch.dropped == 1 - len(batch.prompts)
        assert batch.pixels.shape == (2 * len(batch.prompts), 3, 8, 8)


def test_groups_that_are_dropped_keep_nothing_of_their_images(tmp_path: Path) -> None:
    """An error that is kept keeps its frames, and they keep the pixels."""
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number)[:40])
    names = [{**TRAIN_ROW, "file_path": [f"{number}.png", f"{number + 1}.png"]} for number in range(5)]
    data = open_data(write_json(tmp_path / "train.json", names), image_root=tmp_path)
    gc.collect()
    others = {id(found) for found in gc.get_objects() if issubclass(type(found), InputError)}  # of other tests
    gc.disable()
    try:
        readers = [[lambda group=group: (data, group)] for group in data]
        batches = [*replace(DECODER, on_broken="drop", workers=1).batches(iter(readers))]
        kept = [found for found in gc.get_objects() if issubclass(type(found), InputError) and id(found) not in others]
    finally:
        gc.enable()
    assert (sum(batch.dropped for batch in batches), kept) == (5, [])


@pytest.mark.parametrize("layout", ["rows", "files"])
def test_groups_can_be_left_out(layouts: dict[str, DataSet], layout: str) -> None:
    data = layouts[layout]
    leave = [group.place for group in data.outline() if group.judgements][::2]
    loader = loader_of(data, without=leave, pairs=1)
    assert not {batch.examples[0].place for batch in taken(loader, 16)} & {*leave}
    with pytest.raises(InputError, check=at(data.path, cure="remove fewer")):
        PreferenceDataset(data, without=[group.place for group in data.outline()])


def test_groups_may_have_weights(tmp_path: Path) -> None:
    lines = [{"group": n, "prompt": f"p{n}", "images": ["a.png", "b.png"], "ranks": [1, 2]} for n in range(3)]
    lines[1]["meta"] = {"weight": 2.5}
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(len(name)))
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [batch] = taken(loader_of(open_data(path), pairs=3), 1)
    assert dict(zip(batch.prompts, batch.weight.tolist(), strict=True)) == {"p0": 1, "p1": 2.5, "p2": 1}
    lines[2]["meta"] = {"weight": 0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RecordError, check=at("rankings.jsonl: line 3: weight", found="0")):
        PreferenceDataset(open_data(path))


@pytest.mark.parametrize("world", [1, 3])
def test_validation_has_every_judged_group_once_over_all_processes(layouts: dict[str, DataSet], world: int) -> None:
    data = layouts["rows"]
    judged = [group.prompt for group in data if group.judgements]
    for rank in range(world):
        batches = validation_batches(data, replace(DECODER, rank=rank, world=world), pairs=9)
        assert [prompt for batch in batches for prompt in batch.prompts] == judged[rank::world]


def test_data_that_change_under_a_run_are_an_error(tmp_path: Path) -> None:
    data = stored(tmp_path / "a.parquet", made_groups(7))
    loader = loader_of(data)
    stored(tmp_path / "a.parquet", made_groups(8)[1:])
    with pytest.raises(InputError, check=at("row group 0", found="was changed")):
        taken(loader, 1)
