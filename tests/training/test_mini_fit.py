"""mini as a recipe: what it makes of a data set, what it leaves out, and that a kill costs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, OutputError, RecordError
from hpskit.models.checkpoint import Weights
from hpskit.models.registry import MODELS
from hpskit.models.training_record import read_record
from hpskit.scoring.scorer import load_scorer
from hpskit.training import mini_data
from hpskit.training.mini_data import Material, read_material
from hpskit.training.mini_features import COPIES, Table
from hpskit.training.mini_fit import MiniFit, Summary, plan, run
from hpskit.training.mini_linear import fit_bradley_terry, fit_layer, folds, hold_out
from hpskit.training.mini_recipe import MiniRecipe
from hpskit.training.recipes import mini
from judged_photographs import write_votes
from preference_data import png

ROOT = Path(__file__).parents[2]
QUICK = mini().with_settings(["repeats=1", "folds=4", "penalties=[1.0, 0.3]"])
WORDS = "cat dog barn lake tower bridge garden violin teapot comet harbour piano"


def write_rankings(folder: Path, groups: Sequence[dict[str, Any]]) -> Path:
    """`rankings.jsonl`, a line for each ranking in `ranks`."""
    lines = [
        {**{name: value for name, value in group.items() if name != "ranks"}, "group": number, "ranks": ranks}
        for number, group in enumerate(groups)
        for ranks in group["ranks"]
    ]
    path = folder / "rankings.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rankings(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_votes(tmp_path_factory.mktemp("votes") / "votes", photographs)


@pytest.fixture(scope="module")
def fitted(rankings: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return run(MiniFit(data=rankings, out=tmp_path_factory.mktemp("fitted") / "mini", recipe=QUICK))


def test_what_it_makes_can_be_used(fitted: Summary, rankings: Path) -> None:
    assert {path.name for path in fitted.out.iterdir()} == {
        "figures.json",
        "manifest.json",
        "mini.safetensors",
        "mini.training.json",
    }
    scorer = load_scorer(fitted.weights)
    info = scorer.info
    assert (info.name, info.version, info.architecture) == ("mini", "local", "mini")
    assert info.weight_hash == fitted.figures["weight_hash"] != load_scorer("mini").info.weight_hash
    assert info.preprocessing == load_scorer("mini").info.preprocessing
    data = open_data(rankings)
    for group in data:
        scores = scorer.score([data.image_path(name) for name in group.images], group.prompt).numpy()
        assert (np.argmax(scores) == np.argmin(group.ranks()[0])).all()


def test_only_the_linear_layer_is_new(fitted: Summary) -> None:
    embedded = MODELS["mini"].embedded
    assert embedded is not None
    own, old = (dict(Weights(path=path, origin=path).tensors()) for path in (fitted.weights, embedded))
    assert {name: tensor.dtype for name, tensor in own.items()} == {name: t.dtype for name, t in old.items()}
    assert {name for name in old if not torch.equal(own[name], old[name])} == {"centre", "weight"}


def test_the_record_and_the_figures_agree(fitted: Summary) -> None:
    record = read_record(fitted.weights, fitted.figures["weight_hash"])
    assert record is not None
    assert record.held_out is not None
    assert record.overlap(["a cat", "A  comet", "a horse"]) == 2
    assert record.data == "10 prompts of " + fitted.figures["data"]
    assert [record.held_out.value, record.held_out.low, record.held_out.high] == fitted.figures["accuracy"]
    assert record.held_out.rule == fitted.figures["rule"] == "ties-half"
    assert fitted.figures["accuracy"][0] >= 0.9
    assert fitted.figures["annotator_vs_others"][0] == 1
    assert fitted.figures["generators"] == "not used: the data do not name them"
    assert len(fitted.figures["penalties"]) == 4
    assert set(fitted.figures["original_beats_copy"]) == set(COPIES)
    assert any("accuracy" in line for line in fitted.lines())


def test_stopped_anywhere_it_ends_with_the_same_weights(fitted: Summary, rankings: Path, tmp_path: Path) -> None:
    """An exception from the progress leaves what a kill leaves: files and lines that were written whole."""
    config = MiniFit(data=rankings, out=tmp_path / "mini", recipe=QUICK)
    told: list[tuple[str, int]] = []

    def stop_at(step: str, done: int) -> None:
        def progress(*now: Any) -> None:
            told.append(now[:2])
            if now[:2] == (step, done):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(config, progress)

    stop_at("features", 3 * 20)
    (config.out / "features/.noisy-00000.safetensors.x.tmp").write_bytes(b"torn")
    with (config.out / "work.jsonl").open("a") as log:
        log.write('{"features": "compr')
    stop_at("cross-validation", 2)
    again = run(config)
    assert again.figures["weight_hash"] == fitted.figures["weight_hash"]
    assert again.figures == fitted.figures
    assert not (config.out / "features").exists()
    stamp = again.weights.stat().st_mtime_ns
    assert run(config).figures == again.figures
    assert plan(config) == [f"{config.out}: is done already"]
    assert again.weights.stat().st_mtime_ns == stamp


def test_a_folder_belongs_to_one_run(fitted: Summary, rankings: Path, tmp_path: Path) -> None:
    other = MiniFit(data=rankings, out=fitted.out, recipe=replace(QUICK, shrinkage=0.1))
    with pytest.raises(OutputError, match=r"recipe.shrinkage is 0.5, this run has 0.1; choose another --out"):
        plan(other)
    out = tmp_path / "mini"
    shutil.copytree(fitted.out, out)
    (out / "figures.json").write_text("{}")
    with pytest.raises(OutputError, match=r"figures.json: has changed since it was made"):
        run(MiniFit(data=rankings, out=out, recipe=QUICK))
    (out / "manifest.json").unlink()
    with pytest.raises(OutputError, match="is not empty and no fit of mini"):
        run(MiniFit(data=rankings, out=out, recipe=QUICK))


def test_a_plan_writes_nothing(rankings: Path, tmp_path: Path) -> None:
    lines = plan(MiniFit(data=rankings, out=tmp_path / "mini"))
    assert any("10 prompts, 10 groups, 10 pairs of 20 images" in line for line in lines)
    assert any("3 x 10 folds by prompt" in line for line in lines)
    assert not (tmp_path / "mini").exists()


def test_a_broken_image_is_named(rankings: Path, tmp_path: Path) -> None:
    shutil.copytree(rankings.parent, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "images/7-1.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    config = MiniFit(data=tmp_path / rankings.name, out=tmp_path / "mini", recipe=QUICK)
    with pytest.raises(RecordError, match=r"rankings.jsonl: .*image '7-1.jpg': .*mend it or remove the row"):
        run(config)
    broken.unlink()
    with pytest.raises(RecordError, match=r"rankings.jsonl: .*image '7-1.jpg': "):
        plan(replace(config, out=tmp_path / "other"))


# The material


def material(folder: Path, groups: Sequence[dict[str, Any]]) -> Material:
    (folder / "images").mkdir(exist_ok=True)
    for group in groups:
        for name in group["images"]:
            (folder / "images" / name).write_bytes(png(int(Path(name).stem)))
    return read_material(open_data(write_rankings(folder, groups)))


def pairs_of_words(count: int = 12, **more: Any) -> list[dict[str, Any]]:
    """Groups of two images for prompts that have nothing in common."""
    return [
        {"prompt": word, "images": [f"{2 * n}.png", f"{2 * n + 1}.png"], "ranks": [[1, 2]], **more}
        for n, word in enumerate(WORDS.split()[:count])
    ]


def test_what_hangs_together_is_one_prompt(tmp_path: Path) -> None:
    groups = pairs_of_words()
    groups[3]["prompt"] = "CAT!"  # the first prompt again
    groups[5]["images"] = ["4.png", "11.png"]  # an image of the third
    (tmp_path / "images").mkdir()
    found = material(tmp_path, groups)
    assert found.prompt.tolist() == [0, 1, 2, 0, 3, 2, 4, 5, 6, 7, 8, 9]
    assert found.prompts == 10
    assert len(found.images) == 23
    assert found.images_of(np.array([2])).tolist() == [4, 5, 10]


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    groups = pairs_of_words()
    groups[5]["images"] = ["4.png", "11.png"]
    found = material(tmp_path, groups)
    colours = [image.getpixel((0, 0)) for image in found.opened(0)]
    assert [colour[0] for colour in colours] == [*range(10), *range(11, 24)]
    assert [image.getpixel((0, 0)) for image in found.opened(9)] == colours[9:]


def test_votes_become_shares(tmp_path: Path) -> None:
    groups = pairs_of_words()
    groups[0]["ranks"] = [[1, 2], [1, 2], [2, 1], [1, 1]]
    groups[1] |= {"images": ["2.png", "3.png", "50.png"], "ranks": [[1, None, 2]]}
    pairs = material(tmp_path, groups).pairs
    assert pairs.share.tolist() == [0.625] + [1] * 11
    assert (pairs.weight / pairs.weight[1]).tolist() == [4] + [1] * 11
    assert pairs.weight.mean() == pytest.approx(1)
    assert (pairs.first[1], pairs.second[1]) == (2, 4)


def test_too_little_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"has 9 judged prompts that share no image .* expected at least 10"):
        material(tmp_path, pairs_of_words(9))
    nobody = [{**group, "ranks": [None]} for group in pairs_of_words()]
    with pytest.raises(InputError, match="has 0 judged prompts"):
        material(tmp_path, nobody)
    monkeypatch.setattr(mini_data, "_MOST_IMAGES", 20)
    with pytest.raises(InputError, match="has more than 20 images, the most that mini is fitted to; give a part"):
        material(tmp_path, pairs_of_words())


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([["a", "b"]] * 12, "named by the data"),
        ([["a", "a"]] * 12, "not used: there is only one"),
        ([["a", "b"]] * 11 + [["a", "c"]], "not used: 'b' and 'c' have no group in common"),
        ([["a", "b"]] * 11 + [None], "not used: 1 of 12 groups do not name them"),
        ([None] * 12, "not used: the data do not name them"),
    ],
)
def test_generators_are_used_where_they_can_be(tmp_path: Path, sources: list[Any], expected: str) -> None:
    groups = [{**group, "sources": own} for group, own in zip(pairs_of_words(), sources, strict=True)]
    found = material(tmp_path, groups)
    assert found.how == expected
    assert (found.generators is None) == (found.pairs.generators is None) == expected.startswith("not used")


@pytest.mark.parametrize(("size", "known"), [(9, True), (4, False)])
def test_places_stand_for_generators_in_the_test_set_alone(tmp_path: Path, size: int, known: bool) -> None:
    (tmp_path / "test").mkdir()
    entries = []
    for number, word in enumerate([*WORDS.split(), "cat"]):
        names = [f"{number % 12 * size + place}.png" for place in range(size)]
        for name in names:
            (tmp_path / "test" / name).write_bytes(png(int(Path(name).stem)))
        rank = [*range(1, size + 1)]
        people = [{"rank": rank, "user_hash": user} for user in "uv"]
        entries.append({"prompt": word, "image_path": names, "rank": rank, "raw_annotations": people})
    (tmp_path / "test.json").write_text(json.dumps(entries))
    found = read_material(open_data(tmp_path / "test.json"))
    assert found.how.startswith("known by their places") == known
    assert found.generator_count == (size if known else 0)
    assert [place.partition(": ")[2].partition(" (")[0] for place in found.repeated] == ["entry 13"]
    assert len(found.groups) == 12


# The fit


def test_bradley_terry_is_logistic_regression() -> None:
    """scikit-learn as the peer: a share of 0.3 is three votes of ten for the first."""
    rng = np.random.default_rng(0)
    x, shares, weights = rng.normal(size=(60, 5)), rng.integers(0, 11, 60) / 10, rng.uniform(0.2, 3, 60)
    found = fit_bradley_terry(x, shares, weights, 0.7)
    peer = LogisticRegression(C=1 / 0.7, fit_intercept=False, tol=1e-12, max_iter=10_000)
    peer.fit(np.tile(x, (2, 1)), np.repeat([1, 0], 60), np.concatenate([weights * shares, weights * (1 - shares)]))
    assert found == pytest.approx(peer.coef_[0], abs=1e-5)
    assert fit_bradley_terry(-x, 1 - shares, weights, 0.7, start=found + 1) == pytest.approx(found, abs=1e-5)


def test_folds_hold_out_each_prompt_once() -> None:
    for count, parts in ((35, 10), (12, 10), (7, 10)):
        found = folds(count, parts, 1)
        assert sorted(np.concatenate(found).tolist()) == [*range(count)]
        assert max(map(len, found)) - min(map(len, found)) <= 1
        assert len(found) == min(count, parts)


@pytest.mark.parametrize("shuffled", [False, True])
def test_it_finds_what_people_go_by(tmp_path: Path, shuffled: bool) -> None:
    """Features drawn at random, votes by a known sum of them: found on held-out prompts; nothing is, in noise."""
    rng = np.random.default_rng(1)
    count, blocks = 60, (6, 4)
    features = rng.normal(size=(4 * count, 20)).astype(np.float32)
    truth = features @ rng.normal(size=20)
    if shuffled:
        truth = rng.permutation(truth)
    groups = [
        {
            "prompt": f"{number} x{number}",
            "images": [f"{row}.png" for row in range(4 * number, 4 * number + 4)],
            "ranks": [(1 + np.argsort(np.argsort(-truth[4 * number : 4 * number + 4]))).tolist()],
        }
        for number in range(count)
    ]
    judged = material(tmp_path, groups)
    table = Table(plain=torch.from_numpy(features), copies={"worse": torch.from_numpy(features - 0.1)})
    recipe = MiniRecipe(copy_weight=0.0, penalties=(0.3, 0.1))
    right = []
    for held in folds(count, 3, 0):
        scores = np.zeros(len(features))
        scores[judged.images_of(held)] = hold_out(table, judged, held, blocks, recipe).scores
        pairs = judged.pairs.of(held)
        right.append(((scores[pairs.first] > scores[pairs.second]) == (pairs.share > 0.5)).mean())
    assert (0.4 < np.mean(right) < 0.6) if shuffled else (np.mean(right) > 0.9)
    if not shuffled:
        layer = fit_layer(table, judged, blocks, recipe).weight.double().numpy()
        assert np.corrcoef(features @ layer, truth)[0, 1] > 0.98


def test_spoilt_copies_teach_that_damage_is_worse(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    judged = material(tmp_path, pairs_of_words())
    features = torch.from_numpy(rng.normal(size=(24, 4)).astype(np.float32))
    damage = torch.tensor([0.0, 0.0, 2.0, 0.0])
    table = Table(plain=features, copies={"worse": features + damage})
    towards = []
    for weight in (0.0, 0.3, 1.0, 5.0):
        layer = fit_layer(table, judged, (2,), MiniRecipe(copy_weight=weight)).weight
        towards.append(float(layer @ damage / layer.norm()))
    assert towards == sorted(towards, reverse=True)
    assert towards[0] > 0 > towards[1]


# The recipe


def test_settings() -> None:
    changed = mini().with_settings(["repeats=1", "penalties = [3, 1]", "version=1.0", 'data_name="my own"'])
    assert changed == MiniRecipe(repeats=1, penalties=(3.0, 1.0), version="1.0", data_name="my own")
    assert mini().with_settings(["data_name=", "licence=none"]).licence == "none"
    assert mini().with_settings([]) == mini()
    json.dumps(changed.to_dict())


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("repeats", "is 'repeats', expected NAME=VALUE"),
        ("penalty=1", "penalty: is no field of the recipe mini; did you mean 'penalties'"),
        ("repeats=often", "repeats: is 'often', expected a whole number"),
        ("repeats=1.5", "repeats: is 1.5, expected a whole number"),
        ("repeats=true", "repeats: is True, expected a whole number"),
        ("folds=1", "folds: is 1, expected a number from 2 to 1000"),
        ("shrinkage=much", "shrinkage: is 'much', expected a number"),
        ("shrinkage=2", "shrinkage: is 2.0, expected a number from 0 to 1"),
        ("shrinkage=nan", "shrinkage: is nan, expected a number from 0 to 1"),
        ("penalties=1", r"penalties: is 1.0, expected numbers, such as \[1.0, 0.3, 0.1\]"),
        ("penalties=[0.1, 1]", r"penalties: is \[0.1, 1.0\], expected each once, from large to small"),
        ("penalties=[-1]", r"penalties: is \[-1.0\], expected numbers above 0"),
        ("version=", "version: is '', expected a name"),
    ],
)
def test_settings_that_cannot_be(setting: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"^--set: {expected}"):
        mini().with_settings([setting])


@pytest.mark.slow
def test_the_embedded_model_can_be_made_again(shared: Path, tmp_path: Path) -> None:
    """The real sample, as in runs/mini.sh: the figures of the model card, and the same layer."""
    settings = ["version=1.0", "licence=Apache-2.0", "data_name=the HPD v2 test set"]
    config = MiniFit(data=shared / "data/hpdv2_sample", out=tmp_path / "mini", recipe=mini().with_settings(settings))
    made = run(config)
    figures = json.loads((ROOT / "docs/mini.json").read_text())
    apart = {"weight_hash", "command", "package"}
    assert {name: v for name, v in made.figures.items() if name not in apart} == {
        name: v for name, v in figures.items() if name not in apart
    }
    embedded = MODELS["mini"].embedded
    assert embedded is not None
    own, old = (dict(Weights(path=path, origin=path).tensors()) for path in (made.weights, embedded))
    assert own.keys() == old.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, old[name], rtol=1e-3, atol=1e-4 * float(old[name].abs().max()))
    records = [json.loads(path.with_suffix(".training.json").read_text()) for path in (made.weights, embedded)]
    assert records[0] | {"weight_hash": ""} == records[1] | {"weight_hash": ""}
