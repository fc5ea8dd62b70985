"""A run whose files were damaged between two parts of it goes on to the same weights, or says what to do."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpskit.errors import CheckpointError, HpskitError, OutputError
from hpskit.files import publish_json, read_json
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.estimate import estimate
from hpskit.training.log import log_lines
from hpskit.training.past_run import open_run
from hpskit.training.run_folder import RunFolder
from hpskit.training.trainer import TrainRun, train
from small_network import small_run

SETTINGS = ("steps=6", "warmup=1", "batch=4", "validate_every=2", "save_every=2", "keep=2")

FILES = (
    "config.json",
    "log.jsonl",
    "checkpoints/index.json",
    "checkpoints/step-000002/model.safetensors",
    "checkpoints/step-000002/training.safetensors",
    "checkpoints/step-000002/state.json",
    "checkpoints/step-000004/model.safetensors",
    "checkpoints/step-000004/training.safetensors",
    "checkpoints/step-000004/state.json",
)
"""Of a run of six steps that was stopped in the fifth."""


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: Mapping[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda _: None,
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "longer": lambda data: data + b"\0" * 512,
    "a bit flipped": flipped,
    "zeros": lambda data: b"\0" * len(data),
    "another object": lambda _: b"{}\n",
    "no object": lambda _: b"[3]\n",
    "letters": lambda _: b"dear diary,\ntoday",
}


def stop(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
    if line.get("kind") == "step" and done == 5:
        raise InterruptedError


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainRun, str]:
    """A run that was stopped halfway, and the hash of the weights that it should come to."""
    folder = tmp_path_factory.mktemp("halves")
    config = small_run(folder, SETTINGS, pairs=16, held_out=6)
    whole = train(config)

    half = replace(config, out=folder / "half", resume=True)
    with pytest.raises(InterruptedError):
        train(half, stop)
    return half, whole.weight_hash


def resumed(halves: tuple[TrainRun, str], out: Path, damage: Callable[[Path], None]) -> str:
    """What a damaged copy of the run does when it shall go on: `same`, or the text of the error.

    If the error says that something is to be deleted, it is, and then the run must come to the same weights.
    """
    half, expected = halves
    shutil.copytree(half.out, out)
    damage(out)
    said: list[str] = []
    try:
        summary = train(replace(half, out=out), warn=said.append)
    except HpskitError as error:
        text = str(error)
        cure = re.search(r"delete (?:the folder )?(/\S+?),? and", text)
        if cure is None:
            return text
        doomed = Path(cure[1])
        assert out in doomed.parents, text
        shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
        summary = train(replace(half, out=out), warn=said.append)
        assert summary.weight_hash == expected, (text, said)
        return text
    assert summary.weight_hash == expected, said
    return "; ".join(["same", *said])


def damaged(file: str, how: str) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        path = out / file
        content = DAMAGE[how](path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    return damage


def check(outcome: str, out: Path) -> None:
    """An error names a place in the folder and a cure."""
    if not outcome.startswith("same"):
        assert str(out) in outcome, outcome
        assert re.search(r"; .*(delete|put back|choose another folder|resume with)", outcome), outcome
        assert "\n" not in outcome


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_any_damage_is_found_or_does_not_matter(halves: tuple[TrainRun, str], tmp_path: Path, file: str) -> None:
    for how in DAMAGE:
        outcome = resumed(halves, tmp_path / how, damaged(file, how))
        check(outcome, tmp_path / how)
        shutil.rmtree(tmp_path / how)


def test_without_its_damaged_checkpoint_a_run_comes_to_the_same_weights(
    halves: tuple[TrainRun, str], tmp_path: Path
) -> None:
    said = resumed(halves, tmp_path / "run", damaged("checkpoints/step-000004/training.safetensors", "a bit flipped"))
    assert "step-000004/training.safetensors: is not as it was written; delete the folder" in said


def test_without_a_log_a_run_comes_to_the_same_weights_and_says_so(
    halves: tuple[TrainRun, str], tmp_path: Path
) -> None:
    said = resumed(halves, tmp_path / "run", damaged("log.jsonl", "deleted"))
    assert said.startswith("same; step 4: ")
    assert "the curves have a gap" in said


@pytest.mark.parametrize(
    ("file", "how", "said"),
    [
        ("config.json", "deleted", r"config\.json: is not there, but checkpoints of a run are; put back"),
        ("config.json", "half", r"config\.json: is not JSON \(.*\); put back what the run wrote there"),
        ("config.json", "no object", r"config\.json: is not a run of this version"),
        ("log.jsonl", "letters", r"log\.jsonl: line 1: is no line of a training log"),
    ],
)
def test_what_cannot_go_on_says_why(
    halves: tuple[TrainRun, str], tmp_path: Path, file: str, how: str, said: str
) -> None:
    assert re.search(said, resumed(halves, tmp_path / "run", damaged(file, how)))


@pytest.mark.parametrize("change", [{"recipe": []}, {"data": None}, {"validation": [3]}, {"base": "x"}])
def test_settings_of_a_run_that_somebody_has_edited(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path / "run")
    sound = {"recipe": {"lr": 1}, "data": [{"digest": "a"}], "validation": [{"digest": "b"}], "base": None}
    folder.begin(sound)
    folder.check_same(sound)
    publish_json(folder.config, {**read_json(folder.config), **change})
    with pytest.raises(OutputError, match=r"config\.json: is damaged, .*; put back what the run wrote"):
        folder.check_same(sound)


def test_which_checkpoints_are_kept_may_change(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    started = {"recipe": {"lr": 1, "keep": 2, "save_every": 5}, "data": [], "validation": [], "base": None}
    folder.begin(started)
    folder.begin({**started, "recipe": {"lr": 1, "keep": 1, "save_every": 10, "keep_every": 20}})
    with pytest.raises(OutputError, match=r"recipe\.lr was 1, is 2"):
        folder.begin({**started, "recipe": {"lr": 2, "keep": 1}})


def test_the_result_of_a_finished_run_is_made_again(halves: tuple[TrainRun, str], tmp_path: Path) -> None:
    half, expected = halves
    config = replace(half, out=tmp_path / "run")
    shutil.copytree(half.out.parent / "whole", config.out)
    folder = RunFolder(config.out)
    summary, weights = folder.summary.read_bytes(), folder.model.read_bytes()
    for content in (b"", b"[]", b'{"steps": 6}', b"x"):
        folder.summary.write_bytes(content)
        with pytest.raises(
            OutputError, match=r"summary\.json: .*; delete .*summary\.json, and --resume makes it again"
        ):
            folder.finished()
    folder.model.unlink()
    folder.summary.write_bytes(summary)
    with pytest.raises(OutputError, match=r"model\.safetensors: is not there, but the run is finished; delete"):
        train(config)
    folder.summary.unlink()
    assert train(config).weight_hash == expected
    assert folder.model.read_bytes() == weights


@pytest.fixture(scope="module")
def stale(halves: tuple[TrainRun, str]) -> TrainRun:
    """A run that learns next to nothing, so that its first validation stays the best, stopped in the fifth step."""
    half, _ = halves
    config = replace(half, recipe=half.recipe.with_settings(["lr=1e-12", "keep=1"]), out=half.out.parent / "stale")
    with pytest.raises(InterruptedError):
        train(config, stop)
    assert Checkpoints(config.out / "checkpoints", 1).steps() == [2, 4]
    return config


def test_the_best_of_the_others_takes_the_place_of_a_deleted_one(stale: TrainRun, tmp_path: Path) -> None:
    config = replace(stale, out=tmp_path / "run")
    shutil.copytree(stale.out, config.out)
    shutil.rmtree(config.out / "checkpoints/step-000002")
    text = "the best checkpoint, of step 2, is not there any more; that of step 4 is the best of the others"
    assert text in estimate(config).warnings
    said: list[str] = []
    summary = train(config, warn=said.append)
    assert said == [f"step 4: {text}"]
    lines = log_lines(config.out / "log.jsonl")
    warnings = [line for line in lines if line["kind"] == "warning"]
    assert warnings == [{"kind": "warning", "step": 4, "name": "best", "text": text}]
    assert summary.best_step == 4
    figures = next(line for line in lines if line["kind"] == "validation" and line["step"] == 4)
    assert summary.validation == {name: figures[name] for name in summary.validation}
    assert text in html.unescape((config.out / "report.html").read_text())
    assert set(Checkpoints(config.out / "checkpoints", 1).steps()) == {4, 6}


def test_without_a_log_the_best_is_still_what_the_run_takes_for_it(stale: TrainRun, tmp_path: Path) -> None:
    config = replace(stale, out=tmp_path / "run")
    shutil.copytree(stale.out, config.out)
    (config.out / "log.jsonl").unlink()
    assert open_run(config.out).weights()[1] == 2
    assert train(config).best_step == 2
    assert open_run(config.out).weights()[1] == 2  # although the log knows of the last validation alone


def test_without_best_and_log_the_next_validation_counts(stale: TrainRun, tmp_path: Path) -> None:
    config = replace(stale, out=tmp_path / "run")
    shutil.copytree(stale.out, config.out)
    shutil.rmtree(config.out / "checkpoints/step-000002")
    (config.out / "log.jsonl").unlink()
    said: list[str] = []
    assert train(config, warn=said.append).best_step == 6
    assert "no other was validated; the next validation takes its place" in said[1]
    shutil.rmtree(config.out / "checkpoints/step-000004", ignore_errors=True)
    for name in ("log.jsonl", "summary.json"):
        (config.out / name).unlink()
    assert train(config).best_step == 6


def test_a_dry_run_says_where_a_run_goes_on_and_refuses_what_it_would(
    halves: tuple[TrainRun, str], tmp_path: Path
) -> None:
    half, _ = halves
    before = {path: path.read_bytes() for path in half.out.rglob("*") if path.is_file()}
    found = estimate(half)
    assert found.standing is not None
    assert (found.standing.step, found.steps_left, found.standing.finished) == (4, 2, False)
    assert found.measured is not None
    assert found.seconds is not None
    assert 2 * found.measured.seconds < found.seconds < 2 * found.measured.seconds + 3 * found.measured.seconds
    text = "\n".join(found.lines())
    assert "resume: goes on behind step 4 of 6, the best so far is step " in text
    assert "for the 2 steps that are left" in text
    assert found.to_json()["resume"]["step"] == 4
    with pytest.raises(OutputError, match=r"would go on with other settings: recipe\.lr was 0\.0007, is 0\.1"):
        estimate(replace(half, recipe=half.recipe.with_settings(["lr=0.1"])))
    assert {path: path.read_bytes() for path in half.out.rglob("*") if path.is_file()} == before

    whole = estimate(replace(half, out=half.out.parent / "whole"))
    assert "the run is finished after step 6" in "\n".join(whole.lines())
    assert whole.seconds == 0

    broken = replace(half, out=tmp_path / "broken")
    shutil.copytree(half.out, broken.out)
    damaged("checkpoints/step-000004/state.json", "half")(broken.out)
    with pytest.raises(CheckpointError, match=r"state\.json: is not JSON .*and --resume goes on from step 2"):
        estimate(broken)
