"""The folder of a run: checkpoints are whole or not there, a log tells each step once, damage is found."""

from __future__ import annotations

import json
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import CheckpointError, InputError, OutputError
from hpskit.files import publish_json, read_json
from hpskit.training.recipes import Recipe, tiny
from hpskit.training.run_folder import RunFolder, RunLog, TrainState, best_validation, lines_of
from run_material import chained, config_of, log_of, write_run

PAGE = Path(__file__).parents[2] / "docs/training.md"
ONE, TWO = (tiny().with_settings([f"keep={keep}"]) for keep in (1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def save(folder: RunFolder, step: int, recipe: Recipe = TWO, best: int | None = None, size: int = 4) -> TrainState:
    weights = {"a": torch.full((size,), float(step)), "b": torch.eye(2)}
    training = {"exp_avg/a": torch.arange(size, dtype=torch.float32), "step/a": torch.tensor(float(step))}
    state = TrainState(step=step, best=best, position={"groups": [step]}, random=[{"cpu": "00ff"}])
    folder.save(state, weights, training, {"name": "x", "architecture": "y"})
    folder.tidy(recipe, best)
    return state


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.checkpoints.iterdir())


def test_what_was_saved_comes_back(folder: RunFolder) -> None:
    assert folder.steps() == []
    saved = save(folder, 7)
    found, weights, training = folder.load(7)
    assert found.model_copy(update={"hashes": {}, "digest": ""}) == saved
    assert torch.equal(weights["a"], torch.full((4,), 7.0))
    assert training.keys() == {"exp_avg/a", "step/a"}


@pytest.mark.parametrize("change", [{"worse": 1}, {"position": {"groups": [3]}}, {"random": []}, {"best": 3}])
def test_a_state_that_was_edited_is_noticed(folder: RunFolder, change: dict[str, object]) -> None:
    save(folder, 7)
    path = folder.checkpoint(7) / "state.json"
    path.write_text(json.dumps(read_json(path) | change))
    with pytest.raises(CheckpointError, check=at(path, found="not as it was written", cure="--resume")):
        folder.load(7)


def test_the_last_ones_and_the_best_one_stay(folder: RunFolder) -> None:
    for step in range(10, 70, 10):
        save(folder, step, best=20 if step >= 20 else 10)
    assert names(folder) == ["step-000020", "step-000050", "step-000060"]
    assert [folder.weights(which)[1] for which in ("best", "last", "50")] == [20, 60, 50]
    for wrong in ("7", "first"):
        with pytest.raises(InputError, check=at(folder.path, found=wrong, expected="best, last, 20, 50, 60")):
            folder.weights(wrong)


def test_those_of_every_so_many_steps_stay_too(folder: RunFolder) -> None:
    for step in range(10, 110, 10):
        save(folder, step, ONE.with_settings(["keep_every=30", "save_every=10"]), best=10)
    assert folder.steps() == [10, 30, 60, 90, 100]
    folder.tidy(ONE, 10)  # which asks for none of them
    assert folder.steps() == [10, 100]


def test_what_a_kill_has_left_half_written_or_half_removed_is_no_checkpoint(folder: RunFolder) -> None:
    """Of whatever step: a run that is asked to end saves where it is, and may be killed in the middle of that."""
    save(folder, 5)
    folder.checkpoint(5).rename(folder.checkpoints / ".step-000005.old.tmp")
    (folder.checkpoints / ".step-000003.x1y2.tmp").mkdir()
    (folder.checkpoints / ".step-000003.x1y2.tmp/model.safetensors").write_bytes(b"half")
    assert folder.steps() == []
    save(folder, 4)
    assert names(folder) == ["step-000004"]


def damages(data: bytes) -> Iterator[bytes | None]:
    """What may have become of a file."""
    yield None
    yield from (data[: int(share * len(data))] for share in (0, 0.1, 0.5, 0.9))
    yield data + b"\0" * 64
    yield from (b"{}", b"[]", b"null", b"\0" * len(data), b"{" * 5000, b"dear diary")


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json"])
def test_whatever_has_become_of_a_file_is_noticed_and_the_cure_is_named(folder: RunFolder, name: str) -> None:
    save(folder, 3)
    save(folder, 5, size=100)
    path = folder.checkpoint(5) / name
    whole = path.read_bytes()
    for content in damages(whole):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, check=at(path, cure=f"delete {path.parent} and all later checkpoints")):
            folder.load(5)
    path.write_bytes(whole)
    folder.load(5)


@pytest.fixture
def little_room() -> Iterator[int]:
    """No file may grow beyond 64 KB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = 64 << 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_loses_nothing(folder: RunFolder, little_room: int) -> None:
    save(folder, 1, ONE, best=1)
    with pytest.raises(OutputError, check=at(cure="make room")):
        save(folder, 2, ONE, best=2, size=little_room)
    assert names(folder) == ["step-000001"]
    folder.load(1)


def test_a_run_is_read_as_it_stands(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "first", tiny().with_settings(["steps=100"]))
    with folder.log_file.open("a") as log:
        log.write('{"kind": "step", "st')
    assert folder.name == "first"
    assert len(lines_of(folder.log(), "step")) == 100
    found = best_validation(folder.log())
    assert found is not None
    assert found["step"] == 100
    with pytest.raises(InputError, check=at(folder.path, found="'best'", expected="none was saved yet")):
        folder.weights()


def test_a_run_goes_on_with_what_it_was_started_with(folder: RunFolder) -> None:
    """Which checkpoints are kept may change."""
    config = config_of(tiny())
    folder.begin(config)
    before = folder.config_file.read_bytes()
    kept = config_of(tiny().with_settings(["keep=1", "save_every=10", "keep_every=20"]))
    folder.begin(kept.model_copy(update={"on_broken": "fail", "command": "again"}))
    assert folder.config_file.read_bytes() == before
    other = config.data[0].model_copy(update={"digest": "c" * 64})
    for changed, found, expected in (
        (config_of(tiny().with_settings(["lr=1e-5"])), "recipe.lr 0.0007", "1e-05"),
        (config.model_copy(update={"data": (other,)}), "data 1: digest 'aaa", "'ccc"),
        (config.model_copy(update={"data": (other, other)}), "data 1: digest", "'ccc"),
        (config.model_copy(update={"data": ()}), "data 1: digest 'aaa", "None"),
    ):
        with pytest.raises(OutputError, check=at(folder.path, found=found, expected=expected)):
            folder.begin(changed)
    for damage in ({"recipe": []}, {"data": None}, {"validation": [3]}, {"base": "x"}, {"format": "x"}):
        publish_json(folder.config_file, {**json.loads(before), **damage})
        with pytest.raises(OutputError, check=at(folder.config_file, cure="put back")):
            folder.begin(config)


def test_the_summary_of_a_finished_run(folder: RunFolder) -> None:
    assert folder.finished() is None
    folder.path.mkdir()
    cure = f"delete {folder.summary_file}, and --resume makes it again"
    for content in (b"", b"[]", b'{"steps": 6}', b"x"):
        folder.summary_file.write_bytes(content)
        with pytest.raises(OutputError, check=at(folder.summary_file, cure=cure)):
            folder.finished()
    publish_json(folder.summary_file, {"steps": 6, "best_step": 4, "validation": {}, "weight_hash": "sha256:0"})
    with pytest.raises(OutputError, check=at(folder.model, found="is not there", cure=cure)):
        folder.finished()


@pytest.fixture
def logged(folder: RunFolder) -> RunFolder:
    folder.path.mkdir()
    folder.log_file.write_text("".join(json.dumps(line) + "\n" for line in chained(log_of(tiny(), warning=True))))
    return folder


def test_a_log_goes_on_behind_a_step_and_a_torn_end_is_cut_off(logged: RunFolder) -> None:
    before = logged.log()
    with logged.log_file.open("ab") as handle:
        handle.write('{"kind": "warning", "text": "…'.encode()[:-1])
    with RunLog(logged, TrainState(step=120)) as log:
        log.write("warning", 120, {"name": "x", "text": "y"})
        last = log.check
    after = logged.log()
    assert after[:-1] == log.lines == [line for line in before if line["step"] <= 120]
    assert after[-1] == {"kind": "warning", "step": 120, "name": "x", "text": "y", "check": last}


@pytest.mark.parametrize("line", ["dear diary", "[1]", "", '{"step": 3}', '{"kind": "step"}', "[" * 100_000])
def test_a_foreign_line_is_named_and_nothing_is_cut_off(logged: RunFolder, line: str) -> None:
    lines = logged.log_file.read_text().splitlines()
    logged.log_file.write_text("\n".join([*lines[:4], line, *lines[4:], '{"kind": "st']))
    before = logged.log_file.read_bytes()
    with pytest.raises(InputError, check=at(f"{logged.log_file}: line 5", cure="bring the file again")):
        RunLog(logged, TrainState(step=200))
    assert logged.log_file.read_bytes() == before


@given(data=st.data())
def test_a_changed_lost_doubled_or_moved_line_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    texts = [json.dumps(line) + "\n" for line in chained(log_of(tiny(), warning=True))]
    state = TrainState(step=120, log=json.loads([t for t in texts if json.loads(t)["step"] <= 120][-1])["check"])
    folder.log_file.write_text("".join(texts))
    with RunLog(folder, state):
        pass
    one, other = sorted(data.draw(st.sets(st.integers(0, 99), min_size=2, max_size=2)))
    changed = data.draw(st.sampled_from(["lose", "double", "swap", "cut", "reorder", "digit"]))
    if changed == "lose":
        del texts[one]
    elif changed == "double":
        texts.insert(other, texts[one])
    elif changed == "swap":
        texts[one], texts[other] = texts[other], texts[one]
    elif changed == "cut":
        texts = texts[:one]
    elif changed == "reorder":
        texts[one] = json.dumps(dict(reversed(json.loads(texts[one]).items()))) + "\n"
    else:
        places = [place for place, letter in enumerate(texts[one]) if letter.isdigit()]
        place = data.draw(st.sampled_from(places))
        texts[one] = texts[one][:place] + str((int(texts[one][place]) + 1) % 10) + texts[one][place + 1 :]
    folder.log_file.write_text("".join(texts))
    with pytest.raises(InputError, check=at(str(folder.log_file), cure="bring the file again")):
        RunLog(folder, state)


def test_the_page_tells_every_kind_of_line_and_its_fields() -> None:
    section = PAGE.read_text().partition("### Following a run")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", section, re.MULTILINE)
    told = {kind: {"kind", "step", *re.findall(r"`(\w+)`", fields)} for kind, fields in rows}
    for line in log_of(tiny(), warning=True):
        assert line.keys() == told[line["kind"]]
