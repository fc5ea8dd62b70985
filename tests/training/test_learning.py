"""Proof that it learns: on a task whose optimum is known it comes close to it, and from noise it learns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpskit.training.recipes import tiny
from hpskit.training.trainer import Summary, TrainRun, train
from made_up_task import write_task


def trained(folder: Path, *settings: str) -> Summary:
    return train(
        TrainRun(
            recipe=tiny().with_settings(settings),
            data=(str(folder / "train.json"),),
            validation=str(folder / "held-out.json"),
            out=folder / "run",
            tensorboard=False,
        )
    )


@pytest.mark.slow
def test_tiny_comes_within_a_twentieth_of_the_optimum_from_random_weights(tmp_path: Path) -> None:
    write_task(tmp_path, pairs=6000, seed=0)
    optimum = write_task(tmp_path, pairs=500, seed=0, held_out=True)
    found = trained(tmp_path).validation["accuracy"]["value"]
    assert 0.8 < optimum < 0.9, "the votes are noisy: nobody can predict them all"
    assert found >= 0.95 * optimum


@pytest.mark.slow
def test_from_shuffled_labels_it_learns_nothing(tmp_path: Path) -> None:
    """Judged by votes that are not shuffled, five in six of which the same network gets from labels that are not."""
    write_task(tmp_path, pairs=4000, seed=0, shuffled=True)
    write_task(tmp_path, pairs=500, seed=0, held_out=True)
    # one validation: the best of several would be better than chance by choice
    span = trained(tmp_path, "validate_every=200").validation["accuracy"]
    assert span["low"] <= 0.5 <= span["high"]
    assert span["high"] - span["low"] < 0.1


def test_a_short_run_learns_what_is_easiest(tmp_path: Path) -> None:
    """That large discs are preferred is found first."""
    write_task(tmp_path, pairs=600, seed=0)
    write_task(tmp_path, pairs=200, seed=0, held_out=True)
    found = trained(tmp_path, "steps=30", "warmup=5", "batch=32", "validate_every=30", "lr=2e-3")
    assert found.validation["accuracy"]["low"] > 0.55
