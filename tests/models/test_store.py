"""Weights on this machine: what a name or a path means, receipts, conversions, damage."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import TINY, Cli
from error_fields import at
from hpskit import load_scorer
from hpskit.errors import CheckpointError, HashMismatchError, NotCachedError, OutputError
from hpskit.models.checkpoint import file_hash, read_tensors, write_tensors
from hpskit.models.registry import find
from hpskit.models.store import fetch, is_path, locate, verify
from weights_on_disk import assert_one_line, checkpoint, files_in, flip, ready_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HPSKIT_HOME, of this process and of those it starts."""
    path = tmp_path / "home"
    monkeypatch.setenv("HPSKIT_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("small") / "small.pt", 1000)


# --- what is meant


def test_a_carried_file_is_the_same_model_by_name_and_by_path(
    home: Path, small: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ready = ready_file(home, small)
    named, carried = locate("hps-v2.1"), locate(fetch(find("hps-v2.1"), tmp_path / "stick"))
    assert (named.name, named.metadata, named.weight_hash) == (carried.name, carried.metadata, file_hash(ready))
    path = tmp_path / "any name.safetensors"
    metadata = {"name": "ours", "version": "7", "architecture": TINY, "licence": "MIT"}
    write_tensors(read_tensors(tiny_checkpoint), path, metadata)
    info = load_scorer(path, precision="fp32").info
    assert (info.name, info.version, info.architecture, info.licence) == ("ours", "7", TINY, "MIT")
    assert info.weight_hash == load_scorer(tiny_checkpoint, arch=TINY, precision="fp32").info.weight_hash


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nothing.pt", "No such file"),
        ("folder.safetensors", "is a directory"),
        ("pipe.pt", "is not a regular file"),
        ("weights.onnx", "'.onnx'"),
        ("x" * 300 + ".pt", "File name too long"),
        ("weights.onnx/inside.pt", "Not a directory"),
    ],
    ids=["missing", "directory", "pipe", "ending", "too long", "below a file"],
)
def test_what_is_no_checkpoint_file_is_refused(name: str, found: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "weights.onnx").write_text("x")
    path = tmp_path / name
    for use in (locate, verify):
        with pytest.raises(CheckpointError, check=at(path, found=found)):
            use(path)
    assert is_path(str(path))


@pytest.mark.parametrize(
    ("held", "meant"),
    [
        (["model.safetensors", "checkpoints/step-000010/model.safetensors"], "{}/model.safetensors"),
        (["checkpoints/step-000010/model.safetensors", "checkpoints/step-000020/model.safetensors"], "step-000020/"),
        (["open_clip_config.json", "open_clip_model.safetensors"], "{}/open_clip_model.safetensors"),
        (["mini.safetensors", "figures.json"], "{}/mini.safetensors"),
        (["image.onnx", "model.json"], "ONNX"),
        (["notes.txt"], "the checkpoint file itself"),
    ],
    ids=["run", "unfinished run", "Hugging Face", "mini", "ONNX", "other"],
)
def test_of_a_folder_the_file_that_is_meant_is_named(
    held: list[str], meant: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in held:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("x")
    for use, named in itertools.product((locate, verify), ("mine", "mine/", str(tmp_path / "mine"))):
        folder = named.rstrip("/")
        with pytest.raises(CheckpointError, check=at(folder, found="is a directory", cure=meant.format(folder))):
            use(named)


def test_a_name_is_not_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").mkdir()
    (tmp_path / "hps-v2.1").write_text("x")
    assert not is_path("mini")
    assert not is_path("hps-v2.1"), "a known name is that model; a file beside it is ./hps-v2.1"
    assert is_path("./hps-v2.1")


# --- conversions and receipts


def test_a_pickle_is_converted_once_and_again_after_a_change(home: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine.pt", 10)
    first = locate(path)
    twin = first.weights.path
    made = twin.stat().st_mtime_ns
    assert (twin.parent, first.name, first.weight_hash) == (home / "converted", "mine", file_hash(path))
    assert locate(path).weights.path.stat().st_mtime_ns == made
    checkpoint(path, 10, seed=1)
    second = locate(path).weight_hash
    assert second == file_hash(path) != first.weight_hash
    twin.write_bytes(b"rubbish")
    assert locate(path).weight_hash == second
    (tmp_path / "other").mkdir()
    namesake = checkpoint(tmp_path / "other/mine.pt", 10)
    assert (locate(namesake).weight_hash, locate(path).weight_hash) == (first.weight_hash, second)


def test_a_known_file_is_not_read_again(home: Path, small: Path) -> None:
    """Proved by a change that only reading would show: such a change is what `verify` is for."""
    ready = ready_file(home, small)
    before = locate("hps-v2.1").weight_hash
    for damage in ("{}", "[]", '"x"', "not json", '{"stamp": 1}'):  # costs time only
        for receipt in (home / "receipts").iterdir():
            receipt.write_text(damage)
        assert locate("hps-v2.1").weight_hash == before == file_hash(ready)
    flip(ready)
    assert locate("hps-v2.1").weight_hash == before
    with pytest.raises(HashMismatchError):
        verify("hps-v2.1")


# --- verify, and damage


def test_verify_says_if_an_intact_file_is_as_recorded(home: Path, small: Path, cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(NotCachedError, check=at("hps-v2.1", cure="hpskit models fetch hps-v2.1")):
        verify("hps-v2.1")
    ready = ready_file(home, small)
    done = cli("models", "verify", "hps-v2.1")
    assert (done.returncode, done.stdout) == (0, f"{ready}: {file_hash(small)} (as recorded)\n")
    assert verify(ready).recorded == verify("hps-v2.1").recorded == file_hash(small)
    theirs = tmp_path / "theirs.safetensors"
    save_file({"a": torch.zeros(2)}, theirs)
    found = verify(theirs)
    assert (found.name, found.recorded, found.weight_hash) == ("theirs", None, file_hash(theirs))


def test_verify_finds_one_flipped_byte(home: Path, small: Path, cli: Cli, tmp_path: Path) -> None:
    ready = ready_file(home, small)
    copy = fetch(find("mini"), tmp_path)
    assert verify(copy).recorded == verify("mini").weight_hash
    for path in (ready, copy):
        flip(path)
        with pytest.raises(HashMismatchError, check=at(path)):
            verify(path)
    assert_one_line(cli("models", "verify", "hps-v2.1"), ready, file_hash(small), "delete it")


def test_a_damaged_ready_file_is_neither_copied_nor_loaded(home: Path, small: Path, tmp_path: Path) -> None:
    """It is read whole before it is copied, and before it is loaded if it has changed since its receipt."""
    ready = ready_file(home, small)
    locate("hps-v2.1")
    flip(ready)
    with pytest.raises(HashMismatchError):
        fetch(find("hps-v2.1"), tmp_path / "stick")
    assert files_in(tmp_path / "stick") == []
    os.utime(ready)
    for name in ("hps-v2.1", ready):
        with pytest.raises(HashMismatchError, check=at(ready, found="weight hash")):
            locate(name)
    with pytest.raises(HashMismatchError):
        fetch(find("hps-v2.1"))


def test_another_file_in_the_place_of_a_named_model_is_refused(home: Path, small: Path) -> None:
    """Scores carry the name, so a file must say itself that it is that model."""
    ready_file(home, small).rename(home / "models/hps-v2.0.safetensors")
    with pytest.raises(HashMismatchError, check=at(found="hps-v2.1", expected="hps-v2.0")):
        locate("hps-v2.0")
    save_file({"a": torch.zeros(2)}, home / "models/hps-v2.1.safetensors")
    with pytest.raises(HashMismatchError, check=at(expected="hps-v2.1", cure="name it as a file")):
        locate("hps-v2.1")


def test_verify_of_a_pickle_reads_the_pickle_and_its_conversion(home: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine.pt", 1000)
    before = verify(path)
    assert (before.weights.path, before.weight_hash, before.recorded) == (path, file_hash(path), None)
    assert not home.exists(), "verify converted it"
    twin = locate(path).weights.path
    after = verify(path)
    assert (after.weights.path, after.weight_hash, after.recorded) == (path, before.weight_hash, before.weight_hash)
    flip(twin)
    for name in (path, twin):
        with pytest.raises(HashMismatchError, check=at(twin, cure="delete it")):
            verify(name)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "one byte, same time"])
def test_verify_says_that_a_pickle_has_changed_since_its_first_use(replaced: bool, home: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine.pt", 1000)
    first = locate(path)
    if replaced:
        checkpoint(path, 1000, seed=1)
    else:
        flip(path, path.read_bytes().index(torch.tensor(4.6).numpy().tobytes()))
    with pytest.raises(HashMismatchError, check=at(path, found=file_hash(path))) as error:
        verify(path)
    assert first.weight_hash in error.value.found
    first.weights.path.unlink()  # the cure that the message names
    assert verify(path).weight_hash == locate(path).weight_hash == file_hash(path)


# --- folders that cannot be written or read


DROP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: permissions bind root as well
    libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; takes effect with the exec below
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def without_privileges(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    if os.geteuid() == 0:
        if sys.platform != "linux":
            pytest.skip("needs Linux, or not to be root: root may read and write everything")
        command = [sys.executable, "-c", DROP, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_read_only_home_serves_what_is_there(home: Path, small: Path, tmp_path: Path) -> None:
    ready_file(home, small)
    pickle, other = (checkpoint(tmp_path / name, 10) for name in ("mine.pt", "other.pt"))
    locate(pickle)
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    code = f"""
from hpskit.errors import OutputError
from hpskit.models.registry import find
from hpskit.models.store import fetch, locate, verify
for name in ("hps-v2.1", {str(pickle)!r}, "mini"):
    assert locate(name).weight_hash == verify(name).recorded
for name in ("hps-v2.1", "mini"):
    print(fetch(find(name)).name)
try:
    locate({str(other)!r})
except OutputError as error:
    print(error)
"""
    result = without_privileges("-c", code)
    for folder in folders:
        folder.chmod(0o755)
    lines = result.stdout.splitlines()
    assert lines[:2] == ["hps-v2.1.safetensors", "mini.safetensors"], result.stderr
    assert lines[2].startswith(f"{home / 'converted'}/other-")
    assert "Permission denied" in lines[2]
    assert "HPSKIT_HOME" in lines[2]


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_that_may_not_be_read(ending: str, home: Path, small: Path, tmp_path: Path) -> None:
    path = tmp_path / f"mine{ending}"
    write_tensors(read_tensors(small), path, {})
    path.chmod(0)
    result = without_privileges("-m", "hpskit", "models", "verify", path)
    assert_one_line(result, f"{path}: cannot be read (Permission denied")
    assert result.stderr.count("\n") == 1


def test_a_target_that_is_no_folder(home: Path, small: Path, tmp_path: Path) -> None:
    ready_file(home, small)
    (tmp_path / "stick").write_text("x")
    with pytest.raises(OutputError, check=at(tmp_path / "stick")):
        fetch(find("hps-v2.1"), tmp_path / "stick")
