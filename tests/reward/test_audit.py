"""`hpskit reward audit`: each known way to make a reward is told from the others; the first hacked step is found."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from conftest import TINY, Cli
from error_fields import at
from hacked_images import grid, saturated, scenes
from hpskit.errors import InputError
from hpskit.models.loading import load_network
from hpskit.pixels import to_image, to_tensor
from hpskit.reward import audit
from hpskit.scoring.scorer import NetworkScorer, load_scorer

SIDE = 64
PROMPTS = ("a temple", "a flower")


def letterbox(path: Path) -> Any:
    return path


def squashed(path: Path) -> Tensor:
    return interpolate(to_tensor(path)[None], (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)[0]


def cropped(path: Path) -> Tensor:
    pixels = to_tensor(path)
    height, width = pixels.shape[1:]
    size = (SIDE, SIDE * width // height) if height < width else (SIDE * height // width, SIDE)
    resized = interpolate(pixels[None], size, mode="bicubic", antialias=True).clamp(0, 1)[0]
    top, left = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    return resized[:, top : top + SIDE, left : left + SIDE]


@pytest.fixture(scope="module")
def paths(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five images in each of four steps, of several proportions."""
    folder, chance, found = tmp_path_factory.mktemp("run"), random.Random(0), []
    for step in (0, 10, 20, 30):
        (folder / f"step_{step}").mkdir()
        for number in range(5):
            width, height = chance.choice([(160, 96), (96, 160), (200, 100)])
            left, top = chance.randrange(640 - width), chance.randrange(427 - height)
            found.append(folder / f"step_{step}" / f"{number}.png")
            photographs[number % 2].crop((left, top, left + width, top + height)).save(found[-1])
    return found


def write_log(folder: Path, paths: Sequence[Path], rewards: Sequence[float], **more: Any) -> Path:
    rows = [
        {"image": str(path), "prompt": PROMPTS[k % 2], "reward": reward, **{n: v[k] for n, v in more.items()}}
        for k, (path, reward) in enumerate(zip(paths, rewards, strict=True))
    ]
    log = folder / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return log


LETTERBOX, POINTS = "letterbox", "points, as of hpskit and the benchmark"


@pytest.mark.parametrize(
    ("prepare", "antialias", "line", "preprocessing", "scale"),
    [
        (letterbox, True, (1, 0), LETTERBOX, POINTS),
        (letterbox, False, (1, 0), "letterbox, not antialiased", POINTS),
        (cropped, True, (1, 0), "centre crop", POINTS),
        (squashed, True, (1, 0), "squashed to a square", POINTS),
        (letterbox, True, (0.01, 0), LETTERBOX, "cosines, as of DanceGRPO and VideoX-Fun"),
        (letterbox, True, (1 / 26, 0), LETTERBOX, "points / 26, as of flow_grpo"),
        (letterbox, True, (1 / 8, -18 / 8), LETTERBOX, "(points - 18) / 8, as of MixGRPO"),
        (squashed, True, (0.3, 1.0), "squashed to a square", "0.3 x points + 1"),
    ],
)
def test_how_rewards_were_made(
    tiny_checkpoint: Path,
    paths: list[Path],
    tmp_path: Path,
    prepare: Any,
    antialias: bool,
    line: tuple[float, float],
    preprocessing: str,
    scale: str,
) -> None:
    options: dict[str, Any] = {"arch": TINY, "precision": "fp32", "device": "cpu"}
    scorer = load_scorer(tiny_checkpoint, antialias=antialias, **options)
    points = scorer.score([prepare(path) for path in paths], [PROMPTS[k % 2] for k in range(20)])
    rewards = (line[0] * points + line[1]).half().float().tolist()  # as a run in half precision logs them
    found = audit.run(write_log(tmp_path, paths, rewards), partial(load_network, tiny_checkpoint, **options))
    best, second = found.matches[:2]
    assert best.preprocessing == preprocessing, found.matches
    assert best.scale.startswith(scale[:3]) if line == (0.3, 1.0) else best.scale == scale
    assert best.open < second.open / 2
    assert [seen.step for seen in found.lines] == [0, 10, 20, 30]
    assert preprocessing in found.verdict


def test_rewards_of_another_model_fit_none(tiny_checkpoint: Path, paths: list[Path], tmp_path: Path) -> None:
    chance = random.Random(1)
    log = write_log(tmp_path, paths, [chance.gauss(0, 1) for _ in paths])
    found = audit.run(log, partial(load_network, tiny_checkpoint, arch=TINY, precision="fp32", device="cpu"))
    assert "no known preprocessing" in found.verdict


@pytest.fixture(scope="module")
def hacked(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Forty steps of six images; from the 25th on they are ever more saturated and gridded, and the reward rises."""
    folder, chance = tmp_path_factory.mktemp("hacked"), random.Random(2)
    paths, steps, rises = [], [], []
    for step in range(1, 41):
        strength = max(0, step - 24) / 16
        images = scenes(chance, 6, side=48)
        for number, image in enumerate(saturated(grid(images, strength), strength).clamp(0, 1)):
            paths.append(folder / f"{step}-{number}.png")
            to_image(image).save(paths[-1])
            steps.append(step)
            rises.append(100 * strength)
    scorer = load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu")
    scores = scorer.score(paths, [PROMPTS[k % 2] for k in range(240)]).tolist()
    write_log(folder, paths, [s + r for s, r in zip(scores, rises, strict=True)], global_step=steps)
    return folder, scores


def test_the_first_hacked_step(
    hacked: tuple[Path, list[float]], tiny_checkpoint: Path, tmp_path: Path, cli: Cli
) -> None:
    folder, _ = hacked
    options = ("--model", tiny_checkpoint, "--arch", TINY, "--precision", "fp32", "--device", "cpu")
    done = cli("reward", "audit", folder, *options, "--out", tmp_path / "audit.html")
    assert done.returncode == 1, done.stderr
    step = int(done.stdout.partition("alarm at step ")[2].partition(":")[0])
    assert 25 <= step <= 30, done.stdout
    assert f"Alarm at step {step}" in (tmp_path / "audit.html").read_text()


def test_a_log_of_means(hacked: tuple[Path, list[float]], tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder, scores = hacked
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    means = [sum(scores[k - k % 6 : k - k % 6 + 6]) / 6 / 26 for k in range(240)]
    log = write_log(tmp_path, [row["image"] for row in rows], means, step=[row["global_step"] for row in rows])
    found = audit.run(log, partial(load_network, tiny_checkpoint, arch=TINY, precision="fp32", device="cpu"))
    assert found.by_step
    assert found.matches[0].scale == "points / 26, as of flow_grpo"
    assert found.matches[0].open < 0.01


def test_a_log_of_means_of_large_steps(tiny_checkpoint: Path, paths: list[Path], tmp_path: Path) -> None:
    """Each of nine steps has its own image, sixty times: the rewards of 540 images are nine."""
    options: dict[str, Any] = {"arch": TINY, "precision": "fp32", "device": "cpu"}
    scores = load_scorer(tiny_checkpoint, **options).score(paths[:9], PROMPTS[0]).tolist()
    steps = [step for step in range(9) for _ in range(60)]
    log = tmp_path / "log.jsonl"
    rows = [{"image": str(paths[s]), "prompt": PROMPTS[0], "reward": scores[s], "step": s} for s in steps]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = audit.run(log, partial(load_network, tiny_checkpoint, **options))
    assert found.by_step
    assert found.matches[0].open < 0.01


def test_a_network_for_any_proportions_is_tried_in_its_own_way(
    tiny_checkpoint: Path, paths: list[Path], tmp_path: Path
) -> None:
    network, info = load_network(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu")
    network.preprocessing = replace(network.preprocessing, resize="multiple", size=SIDE, area=(SIDE**2, SIDE**2))
    square = [tmp_path / f"{k}.png" for k in range(12)]
    for path, made in zip(paths, square, strict=False):
        Image.open(path).resize((SIDE, SIDE)).save(made)
    rewards = NetworkScorer(network, info).score(square, [PROMPTS[k % 2] for k in range(12)]).tolist()
    found = audit.run(write_log(tmp_path, square, rewards), lambda: (network, info))
    assert [match.preprocessing for match in found.matches] == ["its own preprocessing"]
    assert found.matches[0].open < 0.01


@pytest.mark.parametrize(
    ("rewards", "more", "place", "found"),
    [
        ([1.0] * 20, {}, "log.jsonl", "1 different rewards"),
        ([*map(float, range(19)), "nan"], {}, "log.jsonl: row 20", "reward nan"),
        (["high"] * 20, {}, "log.jsonl: row 1", "high"),
        ([float(k) for k in range(20)], {"step": ["early"] * 20}, "log.jsonl: row 1", "early"),
    ],
)
def test_bad_logs(
    paths: list[Path], tmp_path: Path, rewards: list[Any], more: dict[str, Any], place: str, found: str
) -> None:
    log = write_log(tmp_path, paths, rewards, **more)
    with pytest.raises(InputError, check=at(place, found=found)):
        audit.run(log, lambda: pytest.fail("is not needed yet"))


def test_a_folder_has_one_log(paths: list[Path], tmp_path: Path) -> None:
    for count, word in ((0, "0 tables"), (2, "2 tables")):
        for number in range(count):
            (tmp_path / f"{number}.csv").write_text("image,prompt,reward\n")
        with pytest.raises(InputError, check=at(tmp_path, found=word)):
            audit.run(tmp_path, lambda: pytest.fail("is not needed yet"))
    log = write_log(tmp_path, paths, [0.0] * 20)
    with pytest.raises(InputError, check=at("--columns")):
        audit.run(log, lambda: pytest.fail("is not needed yet"), columns="prize=reward")
