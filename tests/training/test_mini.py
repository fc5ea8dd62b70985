"""The recipe mini: what it makes of a data set, what hangs together, and that it finds what people go by."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from error_fields import at
from hpskit.cli import train as command
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, MissingExtraError, OutputError, RecordError
from hpskit.models.checkpoint import Weights
from hpskit.models.registry import MODELS
from hpskit.models.training_record import read_record
from hpskit.scoring.scorer import load_scorer
from hpskit.training.mini import (
    COPIES,
    Judged,
    MiniRecipe,
    cross_validate,
    fit,
    lines,
    plan,
    read_judged,
    run,
)
from preference_data import png
from small_inputs import write_votes

ROOT = Path(__file__).parents[2]
QUICK = MiniRecipe(repeats=1, folds=4, penalties=(1.0, 0.3))
WORDS = "cat dog barn lake tower bridge garden violin teapot comet harbour piano"


def judged(folder: Path, groups: Sequence[dict[str, Any]]) -> Judged:
    """Groups as `rankings.jsonl`, a line for each ranking in `ranks`, with an image for each name."""
    (folder / "images").mkdir(exist_ok=True)
    rows = []
    for number, group in enumerate(groups):
        rows += [{**group, "group": number, "ranks": ranks} for ranks in group["ranks"]]
        for name in group["images"]:
            (folder / "images" / name).write_bytes(png(int(Path(name).stem)))
    (folder / "rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_judged(open_data(folder / "rankings.jsonl"))


def pairs_of_words(count: int = 12) -> list[dict[str, Any]]:
    """Groups of two images for prompts that have nothing in common."""
    return [
        {"prompt": word, "images": [f"{2 * n}.png", f"{2 * n + 1}.png"], "ranks": [[1, 2]]}
        for n, word in enumerate(WORDS.split()[:count])
    ]


@pytest.fixture(scope="module")
def rankings(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_votes(tmp_path_factory.mktemp("votes") / "votes", photographs)


@pytest.fixture(scope="module")
def fitted(rankings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("fitted") / "mini"
    return out / "mini.safetensors", run(open_data(rankings), out, QUICK)


def test_what_it_makes_can_be_used(fitted: tuple[Path, dict[str, Any]], rankings: Path) -> None:
    weights, figures = fitted
    assert any("accuracy" in line for line in lines(figures))
    scorer, embedded = load_scorer(weights), load_scorer("mini")
    assert (scorer.info.name, scorer.info.version, scorer.info.architecture) == ("mini", "local", "mini")
    assert scorer.info.weight_hash == figures["weight_hash"] != embedded.info.weight_hash
    assert scorer.info.preprocessing == embedded.info.preprocessing
    data = open_data(rankings)
    for group in data:
        scores = scorer.score([data.image_path(name) for name in group.images], group.prompt).numpy()
        assert (np.argmax(scores) == np.argmin(group.ranks()[0])).all()


def test_its_files_say_what_it_is_worth(fitted: tuple[Path, dict[str, Any]]) -> None:
    """The record of training, the figures, and weights of which the linear layer alone is new."""
    weights, figures = fitted
    record, embedded = read_record(weights, figures["weight_hash"]), MODELS["mini"].embedded
    assert record is not None
    assert record.held_out is not None
    assert record.overlap(["a cat", "A  comet", "a horse"]) == 2
    assert record.data == "10 prompts of " + figures["data"]
    assert [record.held_out.value, record.held_out.low, record.held_out.high] == figures["accuracy"]
    assert record.held_out.rule == figures["rule"] == "ties-half"
    assert figures["accuracy"][0] >= 0.9
    assert set(figures["original_beats_copy"]) == set(COPIES)
    assert json.loads((weights.parent / "figures.json").read_text()) == figures
    assert embedded is not None
    own, old = (dict(Weights(path=path, origin=path).tensors()) for path in (weights, embedded))
    assert {name: tensor.dtype for name, tensor in own.items()} == {name: t.dtype for name, t in old.items()}
    assert {name for name in old if not torch.equal(own[name], old[name])} == {"centre", "weight"}


def test_the_folder_is_new_and_appears_whole(
    fitted: tuple[Path, dict[str, Any]], rankings: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, check=at(fitted[0].parent, found="exists")):
        run(open_data(rankings), fitted[0].parent, QUICK)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(open_data(rankings), tmp_path / "mini", QUICK, progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_plan_writes_nothing(rankings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.train([str(rankings)], tmp_path / "mini", recipe="mini", dry_run=True)
    said = capsys.readouterr().out
    assert "10 prompts, 10 groups, 10 pairs of 20 images" in said
    assert "3 x 10 folds by prompt" in said
    assert not (tmp_path / "mini").exists()


def test_what_is_missing_or_broken_is_named(rankings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(rankings.parent, tmp_path / "votes")
    broken, data = tmp_path / "votes/images/7-1.jpg", open_data(tmp_path / "votes" / rankings.name)
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(InputError, check=at("7-1.jpg")):
        run(data, tmp_path / "mini", QUICK)
    broken.unlink()
    with pytest.raises(RecordError, check=at("rankings.jsonl")):
        plan(data, QUICK)
    monkeypatch.setattr("hpskit.errors.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, check=at("--recipe mini", found="sklearn", cure="hpskit[train]")):
        run(data, tmp_path / "mini", QUICK)


def test_what_hangs_together_is_one_prompt(tmp_path: Path) -> None:
    groups = pairs_of_words()
    groups[3]["prompt"] = "CAT!"  # the first prompt again
    groups[5]["images"] = ["4.png", "11.png"]  # an image of the third
    groups.append({**groups[0], "annotator": "a"})
    groups.append({**groups[0], "annotator": "a"})  # once more
    found = judged(tmp_path, groups)
    same = [(a, b) for b in range(13) for a in range(b) if found.prompt[a] == found.prompt[b]]
    assert same == [(0, 3), (2, 5), (0, 12), (3, 12)]
    assert (found.prompts, len(found.images)) == (10, 23)
    assert found.image_prompt[found.rows[5]].tolist() == [found.prompt[2]] * 2


def test_votes_become_shares(tmp_path: Path) -> None:
    groups = pairs_of_words()
    groups[0]["ranks"] = [[1, 2], [1, 2], [2, 1], [1, 1]]
    groups[1] |= {"images": ["2.png", "3.png", "50.png"], "ranks": [[1, None, 2]]}
    pairs = judged(tmp_path, groups).pairs
    assert pairs["share"].tolist() == [0.625] + [1] * 11
    assert (pairs["weight"] / pairs["weight"][1]).tolist() == [4] + [1] * 11
    assert pairs["weight"].mean() == pytest.approx(1)
    assert (pairs["first"][1], pairs["second"][1]) == (2, 4)


def test_too_little_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for groups in (pairs_of_words(9), [{**group, "ranks": [None]} for group in pairs_of_words()]):
        with pytest.raises(InputError, check=at("rankings.jsonl", expected="at least 10")):
            judged(tmp_path, groups)
    monkeypatch.setattr("hpskit.training.mini.MOST_IMAGES", 20)
    with pytest.raises(InputError, check=at("rankings.jsonl", found="more than 20 images")):
        judged(tmp_path, pairs_of_words())


@pytest.mark.parametrize("shuffled", [False, True])
def test_it_finds_what_people_go_by(tmp_path: Path, shuffled: bool) -> None:
    """Features drawn at random, votes by a known sum of them: found on held-out prompts; nothing is, in noise."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(240, 20))
    truth = features @ rng.normal(size=20)
    seen = (rng.permutation(truth) if shuffled else truth).reshape(-1, 4)
    groups = [
        {"prompt": f"{n} x{n}", "images": [f"{4 * n + k}.png" for k in range(4)], "ranks": [ranks.tolist()]}
        for n, ranks in enumerate(1 + np.argsort(np.argsort(-seen, axis=1), axis=1))
    ]
    found = judged(tmp_path, groups)
    table = np.concatenate([features] * (1 + len(COPIES)))
    recipe = MiniRecipe(copy_weight=0.0, penalties=(0.3, 0.1), folds=3, repeats=1)
    (scores,) = cross_validate(table, found, recipe, lambda *_: None)
    pairs = found.pairs
    right = ((scores[pairs["first"]] > scores[pairs["second"]]) == (pairs["share"] > 0.5)).mean()
    assert (0.35 < right < 0.65) if shuffled else right > 0.9
    if not shuffled:
        assert np.corrcoef(features @ fit(table, pairs, recipe.penalties)[0], truth)[0, 1] > 0.98
