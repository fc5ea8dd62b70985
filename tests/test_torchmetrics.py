"""hpskit.torchmetrics: the mean over batches, as in one process so in several."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from error_fields import at
from hpskit.errors import InputError
from hpskit.scoring.scorer import load_scorer
from hpskit.torchmetrics import HumanPreferenceScore

PIXELS = torch.rand(5, 3, 48, 64, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a", "b", "c", "d", "e"]


def test_the_mean_is_that_of_all_images_in_any_batches() -> None:
    scorer = load_scorer("mini", precision="fp32")
    expected = float(scorer(PIXELS, PROMPTS).double().mean())
    metric = HumanPreferenceScore(scorer)
    for start in (0, 1, 3):
        batch = slice(start, {0: 1, 1: 3, 3: 5}[start])
        of_batch = metric(PIXELS[batch], PROMPTS[batch])
        assert float(of_batch) == pytest.approx(float(scorer(PIXELS[batch], PROMPTS[batch]).mean()), abs=1e-4)
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-4)
    assert int(metric.images) == 5
    metric.reset()
    metric.update((PIXELS * 255).byte().permute(0, 2, 3, 1).numpy(), "a")  # arrays, one prompt for all
    assert float(metric.compute()) == pytest.approx(expected, abs=0.05)
    with pytest.raises(InputError, check=at("prompts", found="1 for 5")):
        metric.update(PIXELS, ["a"])


def test_copies_share_the_scorer_and_count_by_themselves() -> None:
    metric = HumanPreferenceScore(load_scorer("mini", precision="fp32"))
    metric.update(PIXELS[:2], "a")
    for copied in (metric.clone(), copy.deepcopy(metric)):
        assert copied.scorer is metric.scorer
        assert float(copied.compute()) == float(metric.compute())
        copied.update(PIXELS[2:], "a")
        assert (int(copied.images), int(metric.images)) == (5, 2)


def test_a_file_is_a_scorer(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "class One:\n    def score(self, images, prompts):\n        return [1.0] * len(images)\n"
    )
    metric = HumanPreferenceScore(Path(f"{tmp_path / 'own.py'}:One"))
    metric.update(PIXELS, PROMPTS)
    assert float(metric.compute()) == 1


PROCESS = """
import sys, torch
from hpskit.torchmetrics import HumanPreferenceScore
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
metric = HumanPreferenceScore("mini")
pixels = torch.rand(5, 3, 48, 64, generator=torch.Generator().manual_seed(0))
part = slice(0, 4) if rank == 0 else slice(4, 5)  # the second has fewer images
metric.update(pixels[part], ["a", "b", "c", "d", "e"][part])
print(float(metric.compute()), len(pixels[part]), int(metric.images))
torch.distributed.destroy_process_group()
"""


def test_processes_agree_on_the_mean_of_all(tmp_path: Path) -> None:
    commands = ([sys.executable, "-c", PROCESS, str(rank), str(tmp_path / "store")] for rank in (0, 1))
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    found = [process.communicate(timeout=300)[0].split() for process in running]
    expected = float(load_scorer("mini")(PIXELS, PROMPTS).mean())
    assert [float(mean) for mean, *_ in found] == pytest.approx([expected, expected], abs=1e-4)
    assert [own for _, own, _ in found] == ["4", "1"]


def test_without_torchmetrics_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['torchmetrics'] = None\nimport hpskit.torchmetrics"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "pip install torchmetrics" in done.stderr
