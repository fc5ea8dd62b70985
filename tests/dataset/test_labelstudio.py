"""Rankings of Label Studio, as its export has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from error_fields import at
from hpskit.dataset.convert import convert
from hpskit.dataset.reading import open_data
from hpskit.errors import RecordError


def task(*rankers: Any, **fields: Any) -> dict[str, Any]:
    """A task of three items with an annotation for each `ranker`, as the documentation of Label Studio shows it."""
    items = [{"id": name, "title": name, "body": "…"} for name in ("a.png", "b.png", "c.png")]
    annotations = [
        {
            "id": number,
            "completed_by": number,
            "was_cancelled": False,
            "lead_time": 4.2,
            "result": [{"from_name": "rank", "to_name": "results", "type": "ranker", "value": {"ranker": ranker}}],
        }
        for number, ranker in enumerate(rankers, 1)
    ]
    return {
        "id": 1,
        "data": {"prompt": "a cat", "items": items} | fields,
        "annotations": annotations,
        "predictions": [],
    }


def read(folder: Path, *tasks: dict[str, Any]) -> Any:
    path = folder / "project.json"
    path.write_text(json.dumps(list(tasks)))
    return list(open_data(path))


def test_orders_buckets_and_what_was_left_out(tmp_path: Path) -> None:
    (group,) = read(
        tmp_path,
        task(
            {"rank": ["c.png", "a.png", "b.png"]},
            {"1": ["b.png"], "2": ["a.png", "c.png"]},
            {"_": ["a.png"], "1": ["c.png"], "2": ["b.png"]},
        ),
    )
    assert (group.prompt, group.images) == ("a cat", ("a.png", "b.png", "c.png"))
    assert [one.ranks for one in group.judgements] == [(2, 3, 1), (2, 1, 2), (None, 2, 1)]
    assert [one.annotator for one in group.judgements] == ["1", "2", "3"]


def test_a_cancelled_annotation_is_none(tmp_path: Path) -> None:
    given = task({"rank": ["c.png", "a.png", "b.png"]})
    given["annotations"][0]["was_cancelled"] = True
    (group,) = read(tmp_path, given)
    assert group.judgements == ()


@pytest.mark.parametrize(
    "ranker",
    [{"good": ["a.png"], "bad": ["b.png"]}, {"rank": ["a.png", "a.png"]}, {"rank": ["z.png"]}, {"rank": "a.png"}, []],
)
def test_what_is_no_ranking_is_refused(tmp_path: Path, ranker: Any) -> None:
    with pytest.raises(RecordError):
        read(tmp_path, task(ranker))


def test_buckets_without_an_order_say_what_helps(tmp_path: Path) -> None:
    place = f"{tmp_path / 'project.json'}: entry 1 (line 1): annotations[0]: ranker"
    with pytest.raises(RecordError, check=at(place)):
        read(tmp_path, task({"good": ["a.png"], "bad": ["b.png", "c.png"]}))


def test_a_data_set_goes_there_and_back(tmp_path: Path) -> None:
    rows = [
        {"group": "g", "prompt": "a dog", "images": ["a.png", "b.png"], "ranks": ranks, "annotator": who}
        for ranks, who in (([1, 2], "x"), ([1, 1], "y"))
    ]
    (tmp_path / "rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert(open_data(tmp_path / "rankings.jsonl"), "labelstudio", tmp_path / "out", images=False, allow_loss=True)
    (group,) = open_data(tmp_path / "out")
    assert [(one.ranks, one.annotator) for one in group.judgements] == [((1, 2), "x"), ((1, 1), "y")]
