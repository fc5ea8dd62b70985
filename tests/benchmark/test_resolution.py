"""Resolution: scorers whose dependence on size is known, people who look at known detail, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from browser import excess, needs_chromium, quiet_page
from conftest import TINY, Cli
from error_fields import at
from hpskit.benchmark.studies.resolution import Resolution, resized, run, smallest_alike
from hpskit.errors import ImageError, InputError
from hpskit.scoring.contract import Candidate
from hpskit.scoring.scorer import load_scorer
from hpskit.stats.comparison import rank_intervals
from preference_data import write_json
from small_inputs import entry

SIDE, COARSE, FINE = 96, 4, 30
"""Pixels of an image, and cycles of its two waves across it. 30 cycles need 60 pixels; at 32 they would fold to 2."""
SCORERS = f"""
import numpy as np


def amplitude(image, cycles):
    row = np.asarray(image.convert("L"), dtype=float).mean(axis=0)
    return float(2 * abs(np.fft.rfft(row)[cycles]) / len(row)) if 2 * cycles < len(row) else 0.0


class Wave:
    version, reads_prompt, cycles = "1", False, 0

    def score(self, images, prompts):
        return [amplitude(image, self.cycles) for image in images]


class Coarse(Wave):
    cycles = {COARSE}


class Fine(Wave):
    cycles = {FINE}


class Folded(Wave):
    cycles = 2


class Level(Wave):
    def score(self, images, prompts):
        return [float(np.asarray(image).mean()) for image in images]
"""


def waves(folded: float, coarse: float, fine: float, level: float) -> Image.Image:
    """Standing waves of these amplitudes in grey levels, of 2, 4 and 30 cycles, on a level."""
    across = 2 * np.pi * (np.arange(SIDE) + 0.5) / SIDE
    row = level + folded * np.cos(2 * across) + coarse * np.cos(COARSE * across) + fine * np.cos(FINE * across)
    return Image.fromarray(np.tile(row, (SIDE, 1)).round().astype(np.uint8)).convert("RGB")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight groups of four images; all three people like those whose fine wave is stronger."""
    folder, rng, entries = tmp_path_factory.mktemp("waves"), np.random.default_rng(0), []
    (folder / "test").mkdir()
    (folder / "waves.py").write_text(SCORERS)
    for group in range(8):
        names, fine = [f"{group}-{n}.png" for n in range(4)], rng.permutation([4, 10, 16, 22])
        for name, strength in zip(names, fine, strict=True):
            waves(*rng.uniform(5, 20, 2), strength, rng.uniform(75, 180)).save(folder / "test" / name)
        ranks = [4 - int((fine < own).sum()) for own in fine]
        entries.append(entry(f"waves {group}", names, ranks, ranks, ranks))
    write_json(folder / "test.json", entries)
    return folder


def loader(place: Path, *names: str) -> Callable[[], Sequence[Candidate]]:
    return lambda: [Candidate(label=name, scorer=load_scorer(f"{place / 'waves.py'}:{name}")) for name in names]


def study(place: Path, out: Path, *names: str, **more: Any) -> dict[str, Any]:
    settings = {"sizes": "32,64,96", "details": "6,48,80", "data": str(place / "test.json"), **more}
    result = run(Resolution(out=out, **settings), loader(place, *names))
    return {scorer["label"]: scorer for scorer in result["scorers"]}


def test_each_scorer_is_found_to_see_what_it_sees(place: Path, tmp_path: Path) -> None:
    found = study(place, tmp_path / "out", "Coarse", "Fine", "Folded", "Level")
    alike = {name: (scorer["size_alike"], scorer["detail_alike"]) for name, scorer in found.items()}
    assert alike["Level"] == (32, 6)  # a mean needs no detail
    assert alike["Folded"] == (32, 48)  # the filter antialiases: fine waves do not come back as coarse ones
    assert alike["Coarse"] == (32, 48)  # 4 cycles need 8 pixels
    assert alike["Fine"] == (None, None)  # 64 and 80 pixels have 30 cycles, weakened by the filter
    by_detail = {row["short_side"]: row for row in found["Fine"]["details"]}
    for short in (6, 48):  # below Nyquist nothing is left: the score falls by all that it was
        assert by_detail[short]["mean"]["value"] == pytest.approx(0, abs=1)
        assert by_detail[short]["change"]["value"] == pytest.approx(np.mean([4, 10, 16, 22]), abs=1)
        assert by_detail[short]["verdict"] == "differs"
    for scorer in found.values():
        own = scorer["sizes"][-1]
        assert own["change"] == {"value": 0, "low": 0, "high": 0}
        steps = sum(row["step"]["value"] for row in scorer["sizes"][1:])
        assert steps == pytest.approx(own["mean"]["value"] - scorer["sizes"][0]["mean"]["value"])
        assert scorer["threshold"] == pytest.approx(0.1 * scorer["deviation"])
    assert found["Fine"]["deviation"] == pytest.approx(np.std([4, 10, 16, 22], ddof=1), abs=0.2)


def test_agreement_falls_where_people_look_at_what_is_gone(place: Path, tmp_path: Path) -> None:
    found = study(place, tmp_path / "out", "Fine", "Level")
    sizes = found["Fine"]["sizes"]
    assert sizes[-1]["accuracy"] == {"value": 1, "low": 1, "high": 1}
    assert sizes[1]["accuracy"]["value"] == 1  # weaker, in the same order
    assert sizes[0]["accuracy_difference"]["value"] == pytest.approx(sizes[0]["accuracy"]["value"] - 1)
    assert sizes[0]["accuracy_difference"]["high"] < 0
    level = [row["accuracy_difference"]["value"] for row in found["Level"]["sizes"]]
    assert level == pytest.approx([0, 0, 0], abs=0.05)


def test_a_network_that_reads_prompts(place: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """One that gets 64 pixels: the size of its input is in the result, and what makes it is one pass of the same."""
    scorer = load_scorer(tiny_checkpoint, arch=TINY)
    config = Resolution(out=tmp_path / "out", data=str(place / "test.json"), sizes="48,96", details="none")
    (found,) = run(config, lambda: [Candidate(label="tiny", scorer=scorer)])["scorers"]
    assert found["input"] == 64
    assert found["details"] == []
    assert found["detail_alike"] is None


# Models, and images of several sizes


@pytest.fixture
def folders(inputs: Path, place: Path, tmp_path: Path) -> Path:
    """The renderings of `inputs` at their own size, and folders of two sizes that the study's filter made of them."""
    for path in sorted((inputs / "renders").rglob("*.png")):
        model, *rest = path.relative_to(inputs / "renders").parts
        for size in (48, 96):
            target = tmp_path / "by-size" / model / str(size) / Path(*rest)
            target.parent.mkdir(parents=True, exist_ok=True)
            resized(Image.open(path), size, "lanczos").save(target)
    return tmp_path / "by-size"


def test_images_given_by_size_are_scored_as_resampled_ones_and_models_are_ranked(
    inputs: Path, place: Path, folders: Path, tmp_path: Path
) -> None:
    both = []
    for root, rendered in ((inputs / "renders", False), (folders, True)):
        images = [f"{name}={root / name}" for name in ("ours", "base", "other")]
        more = {"data": None, "images": images, "prompts": str(inputs / "suite.jsonl"), "sizes": "48,96"}
        both.append(
            study(place, tmp_path / f"out-{rendered}", "Level", details="24", rendered=rendered, **more)["Level"]
        )
    one, other = both
    assert (one["sizes"], one["details"]) == (other["sizes"], other["details"])
    at_96 = one["sizes"][-1]
    assert [row["model"] for row in at_96["ranks"]] == ["ours", "base", "other"]
    assert (at_96["tau"], at_96["rank_prompts"]) == (1, 11)
    assert at_96["accuracy"] is None
    suite = [json.loads(line) for line in (inputs / "suite.jsonl").read_text().splitlines()]
    table = [
        [
            np.asarray(Image.open(inputs / "renders" / name / row["category"] / f"{n // 3:05d}.png")).mean()
            for n, row in enumerate(suite)
        ]
        for name in ("ours", "base", "other")
    ]
    expected = rank_intervals(table)
    assert [row["mean"] for row in at_96["ranks"]] == pytest.approx([np.mean(row) for row in table])
    assert [(row["rank"], row["low"], row["high"]) for row in at_96["ranks"]] == list(
        zip(expected.rank, expected.low, expected.high, strict=True)
    )
    assert "Ranks of the models" in (tmp_path / "out-True/resolution.html").read_text()


def test_what_is_scored_is_not_scored_again(place: Path, tmp_path: Path) -> None:
    calls = list[int]()

    def load() -> Sequence[Candidate]:
        (candidate,) = loader(place, "Level")()
        plain = candidate.scorer._plain  # type: ignore[attr-defined]
        score = plain.score
        plain.score = lambda images, prompts: calls.append(len(images)) or score(images, prompts)
        return [candidate]

    settings: dict[str, Any] = {"out": tmp_path / "out", "data": str(place / "test.json"), "details": "none"}
    first = run(Resolution(sizes="32,96", **settings), load)
    assert sum(calls) == 64
    assert run(Resolution(sizes="32,96", **settings), load) == first
    assert sum(calls) == 64
    run(Resolution(sizes="32,64,96", **settings), load)
    assert sum(calls) == 96


def test_small_images_are_enlarged_only_on_demand(place: Path, tmp_path: Path) -> None:
    found = f"has 32 of 32 with a short side below 128 px: {place / 'test/0-0.png'} (96 px)"
    with pytest.raises(InputError, check=at("images", found=found, cure="allow --enlarge")):
        study(place, tmp_path / "out", "Level", sizes="64,128")
    assert not (tmp_path / "out").exists()
    study(place, tmp_path / "out", "Level", sizes="64,128", enlarge=True)
    assert json.loads((tmp_path / "out/resolution.json").read_text())["images"]["enlarged"] == 32
    assert "32 images with a short side below 128 px were enlarged" in (tmp_path / "out/resolution.html").read_text()


def test_a_folder_of_another_size_is_refused(inputs: Path, place: Path, folders: Path, tmp_path: Path) -> None:
    more = {"data": None, "images": [str(folders / "ours")], "prompts": str(inputs / "suite.jsonl"), "rendered": True}
    (folders / "ours/48").rename(folders / "ours/64")
    with pytest.raises(InputError, check=at(found="has a short side of 48 px", expected="64")):
        study(place, tmp_path / "out", "Level", sizes="64,96", **more)


def test_a_broken_image_stops_it(place: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for path in (place / "test").iterdir():
        (tmp_path / "test" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "test.json").write_bytes((place / "test.json").read_bytes())
    broken = tmp_path / "test/3-1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ImageError, check=at(broken)):
        study(place, tmp_path / "out", "Level", data=str(tmp_path / "test.json"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sizes", {"sizes": "96"}),
        ("sizes", {"sizes": "64,0"}),
        ("sizes", {"sizes": "64,64"}),
        ("sizes", {"sizes": "64,a"}),
        ("details", {"details": "96", "sizes": "64,96"}),
        ("filter", {"filter": "nearest"}),
        ("threshold", {"threshold": 0.0}),
        ("images", {"data": None}),
        ("images", {"images": ["a"]}),
        ("images", {"data": None, "images": ["a"]}),
        ("rendered", {"rendered": True}),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, check=at(name)):
        Resolution(**{"out": Path("out"), "data": "test.json", **settings})


# Parts


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), short=st.integers(1, 64))
def test_proportions_are_kept(width: int, height: int, short: int) -> None:
    if max(width, height) > 50 * min(width, height):
        return
    found = resized(Image.new("L", (width, height)), short, "lanczos").size
    assert min(found) == short
    scale = short / min(width, height)
    assert found == pytest.approx((width * scale, height * scale), abs=0.5)


@given(st.lists(st.sampled_from(("alike", "differs", "open"))))
def test_the_smallest_from_which_on_all_are_alike(verdicts: list[str]) -> None:
    rows = [{"short_side": n, "verdict": verdict} for n, verdict in enumerate(verdicts)]
    found = smallest_alike(rows)
    start = len(rows) if found is None else found
    assert all(verdict == "alike" for verdict in verdicts[start:])
    assert start == 0 or verdicts[start - 1] != "alike"


@needs_chromium
def test_the_page_fits_a_phone(place: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("--sizes", "32,64,96", "--scorer", f"{place / 'waves.py'}:Fine", "--out", tmp_path / "out")
    done = cli("study", "resolution", "--data", place / "test.json", *words)
    assert done.returncode == 0, done.stderr
    assert "Fine: 32 images of 8 prompts" in done.stdout
    with quiet_page() as page:
        page.goto((tmp_path / "out/resolution.html").as_uri())
        assert page.locator("figure").count() == 3
        assert excess(page) == [0] * 4
        assert page.troubles == []


def test_one_prompt_with_a_preference_gives_no_interval(place: Path, tmp_path: Path) -> None:
    """Of the other prompt people think nothing: there is an accuracy, and nobody knows how sure it is."""
    shutil.copytree(place / "test", tmp_path / "test_images")
    rows = [
        {"id": str(n), "prompt": f"waves {n}", "generations": [f"{n}-0.png", f"{n}-1.png"], "ranking": ranks}
        for n, ranks in enumerate(([1, 2], [1, 1]))
    ]
    write_json(tmp_path / "test.json", rows)
    found = study(place, tmp_path / "out", "Fine", data=str(tmp_path / "test.json"))["Fine"]["sizes"][0]
    assert found["accuracy"]["value"] in (0, 1)
    assert (found["accuracy"]["low"], found["accuracy_difference"]["p_value"]) == (None, None)
    assert (tmp_path / "out/resolution.html").is_file()
