"""Columns of pandas and datasets, and the recipe of docs/coming-from.md, with the packages themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hpskit.scoring.scorer import load_scorer

PAGE = Path(__file__).parents[1] / "docs/coming-from.md"


def test_columns_and_map_give_what_lists_give(
    photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets", reason="not installed: pip install 'hpskit[dev]'")
    monkeypatch.chdir(tmp_path)
    files = []
    for name, photograph in zip(("a.jpg", "b.png"), photographs, strict=True):
        photograph.resize((80, 60)).save(name)
        files.append(str(tmp_path / name))
    table = {"image": files, "prompt": ["a temple", "a flower"]}
    expected = load_scorer("mini").score(files, table["prompt"]).tolist()
    (block,) = re.findall(r"^```python\n([^`]*def add_scores.*?)^```", PAGE.read_text(), re.S | re.M)
    names: dict[str, Any] = {}
    exec(compile(block, "example", "exec"), names)
    dataset = datasets.Dataset.from_dict(table).cast_column("image", datasets.Image())
    mapped = dataset.map(names["add_scores"], batched=True, batch_size=1, load_from_cache_file=False)
    assert list(mapped["score"]) == pytest.approx(expected, abs=1e-4)
    scorer = names["scorer"]
    assert scorer(dataset["image"], dataset["prompt"]).tolist() == pytest.approx(expected, abs=1e-4)
    for form in ("torch", "numpy"):  # uint8, channels first and last
        column = dataset.with_format(form)["image"]
        assert scorer(column, dataset["prompt"]).tolist() == pytest.approx(expected, abs=1e-4)
    frame = dataset.to_pandas()
    assert scorer(files, frame["prompt"]).tolist() == pytest.approx(expected, abs=1e-4)
