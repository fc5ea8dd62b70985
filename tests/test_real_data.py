"""What holds for the real data that a developer may have beside the checkout (`../shared`, or HPSKIT_SHARED): an extra.

Where they are absent nothing of this is collected; every promise has a test on made-up data besides.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpskit import load_scorer
from hpskit.annotation.export import export
from hpskit.annotation.project import Settings as AnnotationSettings
from hpskit.annotation.quality import standing
from hpskit.annotation.setup import make_project, open_source
from hpskit.annotation.web.app import create_app
from hpskit.annotation.web.serving import opened
from hpskit.dataset.convert import convert
from hpskit.dataset.inspect import inspect
from hpskit.dataset.reading import open_data
from hpskit.models.checkpoint import Weights
from hpskit.models.registry import MODELS
from hpskit.models.store import locate
from hpskit.models.training_record import read_record
from hpskit.prompts.suites import KNOWN, STYLES, open_suite
from hpskit.stats.accuracy import pair_accuracy
from hpskit.stats.agreement import agreement_by_gap, annotator_agreement, leave_one_out_agreement
from hpskit.stats.planning import fitted_noise
from hpskit.stats.vigilance import honest_taus, taus_with_peers
from replay import replay

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("HPSKIT_SHARED", ROOT.parent / "shared")) / "data"
SAMPLE = DATA / "hpdv2_sample"


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    return json.loads((SAMPLE / "test.json").read_text())  # type: ignore[no-any-return]


def test_the_sample_of_hpdv2(entries: list[dict[str, Any]], tmp_path: Path) -> None:
    data = open_data(SAMPLE)
    for group in data:
        means = group.ranks().mean(axis=0)[np.argsort(group.rank)]  # the published order is that of the means
        assert (np.diff(means) >= 0).all()
    found = inspect(data, decode=True).to_json()
    assert (found["groups"], found["prompts"], found["images"], found["images_decoded"]) == (37, 35, 322, 322)
    assert (found["group_sizes"], found["votes_per_group"]) == ({9: 30, 10: 7}, {10: 37})
    assert (found["comparisons"], found["tied"]) == (10 * (30 * 36 + 7 * 45), 0)
    assert (found["sound"], found["remarks"]) == (True, {"duplicate group": 2})
    convert(data, "parquet", tmp_path / "sample.parquet")
    convert(open_data(tmp_path / "sample.parquet"), "hpdv2", tmp_path / "back")
    assert json.loads((tmp_path / "back/test.json").read_bytes()) == entries
    for path in (tmp_path / "back/test").iterdir():
        assert path.read_bytes() == (SAMPLE / "test" / path.name).read_bytes()


def test_rankings_of_hpdv2_given_through_the_server_come_out_as_they_are(
    entries: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Published orders, every ranking, and both ceilings of the paper."""
    settings = AnnotationSettings(name="replayed", overlap=10, consent=True, checks="off")
    made = make_project(tmp_path / "project", settings, open_source(SAMPLE / "test.json"))
    assert (made.tasks, made.images, made.votes) == (37, 322, 370)
    found = opened(tmp_path / "project")
    given = {
        f"row {row}": {
            f"work-{number:06d}": entry["raw_annotations"][row]["rank"] for number, entry in enumerate(entries, 1)
        }
        for row in range(10)
    }
    assert asyncio.run(replay(create_app(found.project, found.store, limit=False), found.store, given)) == 370
    assert [one.state for one in standing(found.store, settings)] == ["work"] * 10
    exported = export(found.project, found.store, "hpdv2", tmp_path / "out", aggregate="mean")
    assert (exported.tasks, exported.votes, exported.excluded) == (37, 370, {})
    back = json.loads((tmp_path / "out/test.json").read_bytes())
    for entry, row in zip(entries, back, strict=True):
        assert (row["prompt"], row["image_path"], row["rank"]) == (entry["prompt"], entry["image_path"], entry["rank"])
        ranks = [sorted(one["rank"] for one in each["raw_annotations"]) for each in (entry, row)]
        assert ranks[0] == ranks[1]
    votes, again = ([group.ranks() for group in open_data(path)] for path in (SAMPLE, tmp_path / "out"))
    for measure in (annotator_agreement, leave_one_out_agreement):
        assert measure(again).value == pytest.approx(measure(votes).value, abs=1e-12)
    found.store.close()


def test_the_test_set_of_imagereward() -> None:
    raw = json.loads((DATA / "imagereward/test.json").read_bytes())
    groups = [*open_data(DATA / "imagereward")]
    assert [group.judgements[0].ranks for group in groups] == [tuple(row["ranking"]) for row in raw]
    found = inspect(open_data(DATA / "imagereward"), images=False).to_json()
    assert (found["groups"], found["annotators"], found["anonymous_votes"]) == (466, 0, 466)


def test_the_ceilings_of_the_paper(entries: list[dict[str, Any]]) -> None:
    """The paper has 78.1 % for one annotator against another, 85.0 % against the mean ranking."""
    votes = [np.array([row["rank"] for row in entry["raw_annotations"]], dtype=float) for entry in entries]
    assert annotator_agreement(votes).value == pytest.approx(0.785, abs=0.006)
    assert leave_one_out_agreement(votes).value == pytest.approx(0.835, abs=0.006)
    assert leave_one_out_agreement(votes, inclusive=True).value == pytest.approx(0.855, abs=0.006)
    agreement = [point.people.value for point in agreement_by_gap(votes, bins=5)]
    assert agreement == sorted(agreement)
    assert agreement[0] == pytest.approx(0.65, abs=0.03)


def test_rankings_are_those_of_the_model(entries: list[dict[str, Any]]) -> None:
    """One variance, fitted to pairs of people, foretells a person's tau with the mean of the nine others."""
    votes = [np.array([row["rank"] for row in entry["raw_annotations"]], dtype=float) for entry in entries]
    assert fitted_noise(votes) == pytest.approx(0.29, abs=0.005)
    taus = taus_with_peers(votes, [range(10)] * len(votes)).tau
    assert (taus.mean(), taus.std()) == pytest.approx((0.668, 0.197), abs=0.001)
    assert honest_taus(9, 9, bad_peers=0).mean() == pytest.approx(taus.mean(), abs=0.01)
    assert honest_taus(9, 9, bad_peers=0).std() == pytest.approx(taus.std(), abs=0.01)


def test_the_published_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = DATA / "prompts"
    suite = open_suite(prompts / "hpsv2_benchmark")
    assert (suite.name, suite.categories, suite.sha256) == ("hpsv2", STYLES, KNOWN["hpsv2"])
    assert len(open_suite(prompts / "partiprompts.tsv").prompts) == 1632
    assert "Gary Marcus et al." in open_suite(prompts / "drawbench.csv").categories
    shutil.copytree(prompts / "hpsv2_benchmark", tmp_path / "suites/hpsv2")
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path))
    assert open_suite("hpsv2").prompts == suite.prompts


def test_the_rules_change_the_benchmark_prompts_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = runpy.run_path(str(ROOT / "benchmarks/prompt_changes.py"))["page"](DATA / "prompts/hpsv2_benchmark")
    assert page == (ROOT / "docs/prompts-benchmark-changes.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_mini_has_learned_and_says_so(entries: list[dict[str, Any]]) -> None:
    """On the groups it was fitted to it must do better than on unseen ones; an honest figure is in docs/mini.json."""
    record = read_record("mini", locate("mini").weight_hash)
    assert record is not None
    assert record.overlap(entry["prompt"] for entry in entries) == len(entries)
    images = [SAMPLE / "test" / name for entry in entries for name in entry["image_path"]]
    scores = load_scorer("mini", device="cpu").score(images, "x").split([len(e["image_path"]) for e in entries])
    accuracy = pair_accuracy([part.numpy() for part in scores], [entry["rank"] for entry in entries], "hpdv2").value
    assert 0.8 <= accuracy <= 1


@pytest.mark.slow
def test_mini_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of the model card, and the same layer."""
    monkeypatch.setattr(sys, "argv", ["fit.py", str(SAMPLE), str(tmp_path / "mini")])
    runpy.run_path(str(ROOT / "runs/mini/fit.py"), run_name="__main__")
    apart = {"weight_hash", "command", "package", "embedded"}
    made, card = (json.loads(path.read_text()) for path in (tmp_path / "mini/figures.json", ROOT / "docs/mini.json"))
    assert {name: value for name, value in made.items() if name not in apart} == {
        name: value for name, value in card.items() if name not in apart
    }
    embedded = MODELS["mini"].embedded
    assert embedded is not None
    own, old = (
        dict(Weights(path=path, origin=path).tensors()) for path in (tmp_path / "mini/mini.safetensors", embedded)
    )
    for name, tensor in own.items():
        near = 1e-2 * float(old[name].abs().max())  # on another CPU the fit stops a step elsewhere
        torch.testing.assert_close(tensor, old[name], rtol=1e-2, atol=near)
