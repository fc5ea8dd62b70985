"""Image files before they are used: which are missing, in every layout, and whether one was replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group, Judgement
from hpskit.dataset.inventory import take_inventory
from hpskit.dataset.reading import DataSet, open_data
from hpskit.dataset.split import split, write_split
from hpskit.errors import InputError
from preference_data import TRAIN_ROW, png, write_json

GROUPS = 300


def files_data(folder: Path, groups: int = GROUPS, *, chained: bool = True) -> DataSet:
    """Two images for each group, the second of which the next group has too if they are `chained`."""
    folder.mkdir()
    rows = []
    for number in range(groups):
        names = [f"{number}.png", f"{(number + 1) % groups}.png" if chained else f"{number + groups}.png"]
        for name in names:
            (folder / name).write_bytes(png(int(name[:-4])))
        rows.append({**TRAIN_ROW, "prompt": f"prompt {number}", "file_path": names})
    return open_data(write_json(folder / "train.json", rows))


def group(number: int, *carried: str) -> Group:
    names = (f"{number}a.png", f"{number}b.png")
    return Group(
        place="",
        prompt=f"prompt {number}",
        images=names,
        judgements=(Judgement(ranks=(1, 2)),),
        embedded={name: png(number) for name in names if name[-5] in carried},
    )


def stored(path: Path, groups: list[Group]) -> DataSet:
    with ParquetWriter(path) as writer:
        for one in groups:
            writer.write(one)
    return open_data(path)


def test_what_is_missing_is_named_with_all_groups_that_need_it(tmp_path: Path) -> None:
    data = files_data(tmp_path / "a", groups=5)
    places = [group.place for group in data]
    whole = take_inventory(data)
    assert (whole.missing, whole.incomplete) == ((), frozenset())
    whole.refuse()
    (tmp_path / "a/2.png").unlink()
    (tmp_path / "a/3.png").write_bytes(b"")
    found = take_inventory(data)
    assert found.incomplete == set(places[1:4])
    assert [line.split(": image ")[0] for line in found.missing] == places[1:3]
    with pytest.raises(InputError, match=r"entry 2 .*'2.png' is not in .*/a and 1 more; .*--on-broken drop"):
        found.refuse()


def test_a_link_that_leads_to_itself_is_missing_alone(tmp_path: Path) -> None:
    data = files_data(tmp_path / "a", groups=5)
    (tmp_path / "a/2.png").unlink()
    (tmp_path / "a/2.png").symlink_to("2.png")
    [line] = take_inventory(data).missing
    assert "image '2.png' is not in " in line


def test_missing_files_behind_a_parquet_file_are_found(tmp_path: Path) -> None:
    data = files_data(tmp_path / "a", groups=40, chained=False)
    write_split(data, split(data, share=0.2, pixels=False), tmp_path / "parts")
    half = open_data(tmp_path / "parts/train.parquet")
    assert take_inventory(half).missing == ()
    [first, *_] = half
    half.image_path(first.images[1]).unlink()
    found = take_inventory(half)
    assert len(found.missing) == 1
    assert first.place in found.incomplete


@pytest.mark.parametrize(
    ("groups", "missing"),
    [
        ([group(1, "a", "b"), group(2, "a", "b")], []),
        ([group(1), group(2)], ["1a", "1b", "2a", "2b"]),
        ([group(1, "a", "b"), group(2)], ["2a", "2b"]),
        ([group(1, "b"), group(2, "a", "b")], ["1a"]),
    ],
)
def test_images_that_rows_carry_are_no_files(tmp_path: Path, groups: list[Group], missing: list[str]) -> None:
    found = take_inventory(stored(tmp_path / "rows.parquet", groups))
    assert [line.split("'")[1] for line in found.missing] == [f"{name}.png" for name in missing]
    assert all(one.embedded == {} for one, _ in open_data(tmp_path / "rows.parquet").with_files())


def replaced_by_another_size(folder: Path) -> None:
    """The sixth of the names, which is not among those that are read."""
    (folder / "5.png").write_bytes(png(5) + b"!")


def replaced_by_equal_size(folder: Path) -> None:
    """The last of the names, which is among those that are read."""
    assert len(png(0)) == len(png(1))
    (folder / "0.png").write_bytes(png(1))


@pytest.mark.parametrize("replace", [replaced_by_another_size, replaced_by_equal_size])
def test_a_replaced_file_is_noticed_and_a_copied_data_set_is_not(
    tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    before = take_inventory(files_data(tmp_path / "a")).digest
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert take_inventory(open_data(tmp_path / "b")).digest == before
    replace(tmp_path / "b")
    assert take_inventory(open_data(tmp_path / "b")).digest != before


def test_a_replaced_image_is_noticed_where_data_carry_them(tmp_path: Path) -> None:
    groups = [group(n, "a", "b") for n in range(4)]
    before = take_inventory(stored(tmp_path / "1.parquet", groups)).digest
    assert take_inventory(stored(tmp_path / "2.parquet", groups)).digest == before
    other = [*groups[:3], group(3, "a", "b")]
    other[3].embedded["3a.png"] = png(4)  # type: ignore[index]
    assert take_inventory(stored(tmp_path / "3.parquet", other)).digest != before
