"""How weights get to a machine: a real hub on 127.0.0.1, real processes, real kills."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Cli, command_code
from forked_process import ForkedProcess
from hpskit.models.checkpoint import Weights, file_hash
from hpskit.models.store import locate
from hub_server import COMMIT
from weights_on_disk import (
    FILE,
    READY,
    REPOSITORY,
    Machine,
    assert_one_line,
    checkpoint,
    files_in,
    flip,
    machine_in,
)

CHUNK = 10 * 1024**2
"""What the hub's client writes at a time: what is shorter is lost with its process."""
HUB_FILE = f"""
from hpskit.hub import hub_file
print(hub_file("{REPOSITORY}", "{FILE}", cure="Ask."))
"""
"""The download alone, which is quick to start: it needs no torch."""
FETCH = command_code(["hpskit", "models", "fetch", "hps-v2.1"])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine_in(tmp_path, monkeypatch) as machine:
        yield machine


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("small") / "small.pt", 1000)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 MB: two chunks and a rest."""
    return checkpoint(tmp_path_factory.mktemp("large") / "large.pt", 6_000_000)


# --- from the hub, to the store, to another machine


def test_fetch_then_carry_to_another_machine(machine: Machine, small: Path, cli: Cli, tmp_path: Path) -> None:
    hub, file = machine.hub, machine.offer(small)
    here = {"HPSKIT_HOME": str(machine.home), "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}
    done = cli("models", "fetch", "hps-v2.1", "--to", tmp_path / "other", **here)
    assert done.returncode == 0, done.stderr
    assert not machine.ready.exists(), "only the portable file was asked for"
    done = cli("models", "fetch", "hps-v2.1", **here)
    assert str(machine.ready) in done.stdout
    assert Weights(path=machine.ready, origin=machine.ready).metadata() == {
        "name": "hps-v2.1",
        "version": "2.1",
        "architecture": "ViT-H-14",
        "licence": "Apache-2.0",
        "source": f"{REPOSITORY}/{FILE}",
        "source_sha256": file.sha256,
        "weight_hash": file_hash(small),
    }
    assert hub.transfers == [0]
    assert {r.authorization for r in hub.requests if not r.for_content} == {"Bearer hf_secret"}
    assert {r.authorization for r in hub.requests if r.for_content} == {None}, "the token went to another host"

    seen = len(hub.requests)
    assert cli("models", "fetch", "hps-v2.1", **here).returncode == 0
    assert cli("models", "fetch", "hps-v2.1", "--to", tmp_path / "stick", **here).returncode == 0
    assert len(hub.requests) == seen, "what is ready needs no hub"
    assert files_in(tmp_path / "stick") == ["hps-v2.1.safetensors"]
    carried = [tmp_path / folder / "hps-v2.1.safetensors" for folder in ("stick", "other")]
    assert {file_hash(path) for path in [machine.ready, *carried]} == {file_hash(small)}

    there = {"HPSKIT_HOME": str(tmp_path / "there"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"}
    (tmp_path / "there/models").mkdir(parents=True)
    shutil.copyfile(carried[0], tmp_path / "there" / READY)
    value = json.loads(cli("models", "verify", "hps-v2.1", "--json", **there).stdout)
    assert value["path"] == str(tmp_path / "there" / READY)
    assert value["weight_hash"] == value["recorded"] == file_hash(small)
    assert len(hub.requests) == seen


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "home/hub"),
        ({"HF_HOME": "hf"}, "hf/hub"),
        ({"HF_HUB_CACHE": "cache"}, "cache"),
        ({"HF_HOME": "hf", "HF_HUB_CACHE": "cache"}, "cache"),
    ],
    ids=lambda value: "+".join(value) or "HPSKIT_HOME" if isinstance(value, dict) else "",
)
def test_downloads_go_where_the_variables_say(
    variables: dict[str, str], expected: str, machine: Machine, small: Path, cli_python: Cli, tmp_path: Path
) -> None:
    machine.offer(small)
    environment = {name: str(tmp_path / folder) for name, folder in variables.items()}
    path = tmp_path / expected / machine.cached.relative_to(machine.cache)
    assert cli_python(HUB_FILE, HF_ENDPOINT=machine.hub.url, **environment).stdout == f"{path}\n"
    assert path.read_bytes() == small.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {expected.partition("/")[0]}


@pytest.mark.parametrize("trouble", ["offline", "unreachable", 401, 404, 500])
def test_a_cached_original_is_enough_without_a_hub(
    trouble: str | int, machine: Machine, small: Path, cli_python: Cli
) -> None:
    machine.lay_into_cache(small)
    if isinstance(trouble, int):
        machine.hub.status = trouble
    else:
        variables = {"offline": {"HF_HUB_OFFLINE": "1"}, "unreachable": {"HF_ENDPOINT": "http://127.0.0.1:9"}}
        machine.environment |= variables[trouble]
    done = cli_python(HUB_FILE, **machine.environment)
    assert (done.stdout, done.stderr) == (f"{machine.cached}\n", "")


@pytest.mark.parametrize("shared", [False, True], ids=["own blobs", "shared blobs"])
def test_a_damaged_original_is_refused_removed_and_fetched_again(
    shared: bool, machine: Machine, small: Path, cli: Cli
) -> None:
    file = machine.offer(small)
    stored = machine.lay_into_cache(small, shared=shared)
    assert cli("models", "fetch", "hps-v2.1", **machine.environment, HF_HUB_OFFLINE="1").returncode == 0
    machine.ready.unlink()
    flip(stored)
    refused = cli("models", "fetch", "hps-v2.1", **machine.environment)
    assert_one_line(refused, FILE, file.sha256, "run the same command again")
    assert not machine.ready.exists()
    assert files_in(machine.cache) == ["main"]
    assert cli("models", "fetch", "hps-v2.1", **machine.environment).returncode == 0
    assert machine.hub.transfers == [0]
    assert file_hash(machine.ready) == file_hash(small)


# --- downloads that go wrong


Start = Callable[..., ForkedProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a piece of Python as a process that can be stopped and killed; none outlives its test."""
    processes: list[ForkedProcess] = []

    def run(code: str, **environment: str) -> ForkedProcess:
        processes.append(ForkedProcess(code, **environment))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.finish()


def wait_until(condition: Callable[[], bool], process: ForkedProcess) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.finish().stderr
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_download_goes_on_where_it_was(
    number: signal.Signals, start: Start, machine: Machine, large: Path, cli: Cli
) -> None:
    partial = machine.partial(machine.offer(large))
    machine.hub.stop_after = 2 * CHUNK + 1000
    process = start(FETCH, **machine.environment)
    wait_until(lambda: partial.exists() and partial.stat().st_size == 2 * CHUNK, process)
    process.send_signal(number)
    stopped = process.finish()
    if number == signal.SIGINT:
        assert stopped.returncode == 130
        assert stopped.stderr.splitlines()[-1] == "interrupted; the same command goes on with the download"
    assert not machine.cached.exists()
    assert not machine.ready.exists()

    done = cli("models", "fetch", "hps-v2.1", **machine.environment)
    assert done.returncode == 0, done.stderr
    assert machine.hub.transfers == [0, 2 * CHUNK]
    assert machine.cached.read_bytes() == large.read_bytes()
    assert file_hash(machine.ready) == file_hash(large)
    assert not partial.exists()


@pytest.mark.parametrize("trouble", ["cut", "gone", "full disk"])
def test_what_has_arrived_is_kept(trouble: str, start: Start, machine: Machine, large: Path, cli_python: Cli) -> None:
    """A connection that is cut goes on in the same run; the other two end it, and the next one goes on."""
    file, code = machine.offer(large), HUB_FILE if trouble == "cut" else FETCH
    if trouble == "cut":
        machine.hub.cut_after = CHUNK + 1000
    elif trouble == "gone":
        file.content = file.content[: CHUNK + 1000]
    else:
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({CHUNK + 1000},) * 2); {code}"
    done = start(code, **machine.environment).finish()
    if trouble == "cut":
        assert done.returncode == 0, done.stderr
        assert machine.hub.transfers == [0, CHUNK]
    else:
        reason = (
            ("run the same command again",) if trouble == "gone" else (machine.cache, "File too large", "make room")
        )
        assert_one_line(done, FILE, *reason)
        assert files_in(machine.home) == []
        file.content = large.read_bytes()
        assert cli_python(HUB_FILE, **machine.environment).returncode == 0
        assert machine.hub.transfers[-1] >= CHUNK
    assert machine.cached.read_bytes() == large.read_bytes()


@pytest.mark.parametrize("remainder", ["right", "too long"])
def test_a_remainder_that_does_not_fit_does_no_harm(
    remainder: str, machine: Machine, small: Path, cli_python: Cli
) -> None:
    """A hub that sends everything again, or what was never a part of the file."""
    file, content = machine.offer(small), small.read_bytes()
    machine.hub.ranges = remainder != "right"
    machine.partial(file, content[:500] if remainder == "right" else b"x" * (file.size + 1))
    assert cli_python(HUB_FILE, **machine.environment).returncode == 0
    assert machine.hub.transfers == ([500] if remainder == "right" else [file.size + 1, 0])
    assert machine.cached.read_bytes() == content


@pytest.mark.parametrize("damage", ["on the way", "in what had arrived"])
def test_a_corrupt_download_is_refused_and_removed(
    damage: str, machine: Machine, small: Path, cli: Cli, cli_python: Cli
) -> None:
    file, content = machine.offer(small), small.read_bytes()
    if damage == "on the way":
        file.content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    else:
        machine.partial(file, b"x" * 500)
    refused = cli("models", "fetch", "hps-v2.1", **machine.environment)
    assert_one_line(refused, FILE, file.sha256, "run the same command again")
    assert files_in(machine.cache) == files_in(machine.home) == []
    file.content = content
    assert cli_python(HUB_FILE, **machine.environment).returncode == 0
    assert machine.cached.read_bytes() == content


@pytest.mark.parametrize(
    ("status", "reason", "asked"),
    [
        (None, "status 404", 1),
        (401, "status 401", 1),
        (500, "status 500", 3),
        ("unreachable", "the hub cannot be reached (", 0),
        ("offline", "HF_HUB_OFFLINE is set", 0),
        ("page for /", "what answered is no hub", 1),
        ("page for /stored/", "what answered is no hub", 3),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    status: int | str | None, reason: str, asked: int, machine: Machine, cli: Cli
) -> None:
    if status == "unreachable":
        machine.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    elif status == "offline":
        machine.environment["HF_HUB_OFFLINE"] = "1"
    elif isinstance(status, str):
        machine.hub.put(REPOSITORY, FILE, b"weights" * 99)
        machine.hub.page_for = status.removeprefix("page for ")
    else:
        machine.hub.status = status
    result = cli("models", "fetch", "hps-v2.1", **machine.environment)
    command = "`hpskit models fetch hps-v2.1 --to DIR` (3.9 GB)"
    assert_one_line(result, f"{REPOSITORY}/{FILE}: ", reason, command, machine.home / "models")
    assert result.stderr.count("\n") == 1, "the hub's client made noise"
    assert len(machine.hub.requests) == asked


def test_a_file_system_without_links_holds_the_download_once(machine: Machine, small: Path, cli_python: Cli) -> None:
    machine.offer(small)
    assert cli_python(HUB_FILE, HF_HUB_DISABLE_SYMLINKS="1", **machine.environment).returncode == 0
    assert not machine.cached.is_symlink()
    assert [name for name in files_in(machine.cache) if len(name) == 64] == []


def test_files_of_datasets_small_and_large(machine: Machine, cli_python: Cli) -> None:
    machine.hub.put("datasets/zhwang/HPDv2", "benchmark/anime.json", b'["a cat"]', large=False)
    machine.hub.put("datasets/zhwang/HPDv2", "train.json", b"[1, 2]" * 100)
    code = """
from hpskit.hub import hub_file
for name in ("benchmark/anime.json", "train.json", "none.json"):
    print(hub_file("zhwang/HPDv2", name, repo_type="dataset", cure="Ask.").read_bytes()[:9])
"""
    result = cli_python(code, **machine.environment)
    assert result.stdout.splitlines() == ["b'[\"a cat\"]'", "b'[1, 2][1,'"]
    last = result.stderr.splitlines()[-1]
    assert "zhwang/HPDv2/none.json: is not on this machine and the hub answered with status 404" in last
    assert (machine.cache / f"datasets--zhwang--HPDv2/snapshots/{COMMIT}/train.json").is_symlink()


# --- several processes, and processes that die


def happens_soon(condition: Callable[[], bool]) -> bool:
    """For what must not happen: it had a second for it, many times what it would take."""
    deadline = time.monotonic() + 1
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("homes", [1, 2], ids=["one home", "two homes with one cache"])
def test_two_processes_fetch_at_once(start: Start, homes: int, machine: Machine, large: Path, tmp_path: Path) -> None:
    hub = machine.hub
    machine.offer(large)
    hub.stop_after = CHUNK + 1000
    first = start(FETCH, **machine.environment)
    wait_until(hub.stopped.is_set, first)
    other = machine.home if homes == 1 else tmp_path / "other"
    second = start(FETCH, **machine.environment, HPSKIT_HOME=str(other))
    if homes == 2:
        wait_until(lambda: sum(request.method == "HEAD" for request in hub.requests) == 2, second)
        assert not happens_soon(lambda: len(hub.transfers) > 1), "both download"
    hub.release.set()
    for process in (first, second):
        done = process.finish()
        assert done.returncode == 0, done.stderr
    assert hub.transfers == [0, CHUNK]
    for folder in (machine.home, other):
        assert files_in(folder / "models") == ["hps-v2.1.safetensors"]
        assert file_hash(folder / READY) == file_hash(large)


def test_two_processes_convert_at_once(start: Start, large: Path, machine: Machine, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"""
import torch
from pathlib import Path
from hpskit.models.store import locate
Path({str(ready)!r}).touch()
locate({str(large)!r})
"""
    folder = machine.home / "converted"
    first = start(code)
    wait_until(lambda: any(path.stat().st_size for path in folder.glob(".*.tmp")), first)
    first.send_signal(signal.SIGSTOP)  # half-way; it must find its file again
    assert list(folder.glob("large*")) == [], "it was done before it could be stopped"
    ready.unlink()
    second = start(code)
    wait_until(ready.exists, second)
    assert not happens_soon(lambda: any(folder.glob("large*"))), "both convert"
    first.send_signal(signal.SIGCONT)
    for process in (first, second):
        done = process.finish()
        assert done.returncode == 0, done.stderr
    [name] = files_in(folder)
    assert file_hash(folder / name) == file_hash(large)


def test_a_killed_conversion_leaves_no_half_file(start: Start, tmp_path: Path, machine: Machine) -> None:
    source = checkpoint(tmp_path / "big.pt", 25_000_000)
    process = start(f"from hpskit.models.store import locate; locate({str(source)!r})")
    folder = machine.home / "converted"
    wait_until(lambda: any(path.stat().st_size for path in folder.glob(".*.tmp")), process)
    process.kill()
    assert process.finish().returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert list(folder.glob("big*")) == []
    assert len(files_in(folder)) == 1, "nothing was left to sweep: the kill came too late"
    assert locate(source).weight_hash == file_hash(source)
    [name] = files_in(folder)
    assert name.startswith("big-")
