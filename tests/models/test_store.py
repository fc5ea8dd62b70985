"""Where weights are and how they get there: a real hub on 127.0.0.1, real processes, real kills."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import TINY, Cli, command_code
from error_fields import at
from forked_process import ForkedProcess
from hpskit import load_scorer
from hpskit.errors import CheckpointError, HashMismatchError, NotCachedError, OutputError
from hpskit.files import sha256_file
from hpskit.models.checkpoint import Weights, file_hash, read_tensors, write_tensors
from hpskit.models.registry import MODELS, find
from hpskit.models.store import Located, fetch, is_path, locate, verify
from hub_server import COMMIT, Hub, serve

REPOSITORY, FILE = "xswu/HPSv2", "HPS_v2.1_compressed.pt"
CACHED = f"models--xswu--HPSv2/snapshots/{COMMIT}/{FILE}"
CHUNK = 10 * 1024**2
"""What the hub's client writes at a time: what is shorter is lost with its process."""

HUB_FILE = f"""
from hpskit.hub import hub_file
print(hub_file("{REPOSITORY}", "{FILE}", cure="Ask."))
"""
"""The download alone, which is quick to start: it needs no torch."""
FETCH = command_code(["hpskit", "models", "fetch", "hps-v2.1"])


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HPSKIT_HOME, of this process and of those it starts."""
    path = tmp_path / "home"
    monkeypatch.setenv("HPSKIT_HOME", str(path))
    return path


@pytest.fixture
def online(hub: Hub, home: Path, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("small") / "small.pt", 1000)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 MB: two chunks and a rest."""
    return checkpoint(tmp_path_factory.mktemp("large") / "large.pt", 6_000_000)


def checkpoint(path: Path, numbers: int, seed: int = 0) -> Path:
    values = torch.rand(numbers, generator=torch.Generator().manual_seed(seed))
    torch.save({"state_dict": {"weight": values, "logit_scale": torch.tensor(4.6)}}, path)
    return path


def flip(path: Path, place: int = -1) -> None:
    """Change one byte; the time of the file stays, as with a failing disk."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Status 2 and an error of one line; a download that began may have shown its progress before."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert sum("error" in line.lower() for line in lines) == 1
    assert all(part in lines[-1] for part in parts), lines[-1]


def files_in(folder: Path) -> list[str]:
    """Every file but locks, which are empty and stay."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def describe(located: Located) -> tuple[str, str | None, str]:
    return located.name, located.metadata.get("version"), located.weight_hash


# --- fetch: from the hub, to the store, to another machine


def test_fetch_then_carry_to_another_machine(hub: Hub, small: Path, cli: Cli, tmp_path: Path) -> None:
    file = hub.put(REPOSITORY, FILE, small.read_bytes())
    here = {"HPSKIT_HOME": str(tmp_path / "here"), "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}
    done = cli("models", "fetch", "hps-v2.1", **here)
    assert done.returncode == 0, done.stderr
    ready = tmp_path / "here/models/hps-v2.1.safetensors"
    assert str(ready) in done.stdout
    assert Weights(path=ready, origin=ready).metadata() == {
        "name": "hps-v2.1",
        "version": "2.1",
        "architecture": "ViT-H-14",
        "licence": "Apache-2.0",
        "source": f"{REPOSITORY}/{FILE}",
        "source_sha256": file.sha256,
        "weight_hash": file_hash(small),
    }
    assert file_hash(ready) == file_hash(small)
    assert hub.transfers == [0]
    assert {r.authorization for r in hub.requests if not r.for_content} == {"Bearer hf_secret"}
    assert {r.authorization for r in hub.requests if r.for_content} == {None}, "the token went to another host"

    seen = len(hub.requests)
    assert cli("models", "fetch", "hps-v2.1", **here).returncode == 0
    assert cli("models", "fetch", "hps-v2.1", "--to", tmp_path / "stick", **here).returncode == 0
    assert len(hub.requests) == seen, "what is ready needs no hub"
    assert files_in(tmp_path / "stick") == ["hps-v2.1.safetensors"]

    there = {"HPSKIT_HOME": str(tmp_path / "there"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"}
    carried = tmp_path / "there/models/hps-v2.1.safetensors"
    carried.parent.mkdir(parents=True)
    shutil.copyfile(tmp_path / "stick/hps-v2.1.safetensors", carried)
    value = json.loads(cli("models", "verify", "hps-v2.1", "--json", **there).stdout)
    assert value["path"] == str(carried)
    assert value["weight_hash"] == value["recorded"] == file_hash(small)
    assert len(hub.requests) == seen


def test_the_carried_file_is_the_same_model_by_name_and_by_path(home: Path, small: Path, tmp_path: Path) -> None:
    ready = ready_file(home, small)
    stick = fetch(find("hps-v2.1"), tmp_path / "stick")
    assert describe(locate("hps-v2.1")) == describe(locate(stick)) == ("hps-v2.1", "2.1", file_hash(ready))


def test_a_carried_file_scores_with_its_own_name_and_version(home: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "any name.safetensors"
    metadata = {"name": "ours", "version": "7", "architecture": TINY, "licence": "MIT"}
    write_tensors(read_tensors(tiny_checkpoint), path, metadata)
    info = load_scorer(path, precision="fp32").info
    assert (info.name, info.version, info.architecture, info.licence) == ("ours", "7", TINY, "MIT")
    assert info.weight_hash == load_scorer(tiny_checkpoint, arch=TINY, precision="fp32").info.weight_hash


def ready_file(home: Path, source: Path, name: str = "hps-v2.1") -> Path:
    """What `fetch` leaves, without a hub."""
    path = home / "models" / f"{name}.safetensors"
    write_tensors(read_tensors(source), path, {"name": name, "version": MODELS[name].version})
    return path


def test_fetch_to_a_folder_makes_the_portable_file_alone(hub: Hub, small: Path, cli: Cli, tmp_path: Path) -> None:
    hub.put(REPOSITORY, FILE, small.read_bytes())
    here = {"HPSKIT_HOME": str(tmp_path / "here"), "HF_ENDPOINT": hub.url}
    assert cli("models", "fetch", "hps-v2.1", "--to", tmp_path / "stick", **here).returncode == 0
    assert cli("models", "fetch", "hps-v2.1", "--to", tmp_path / "other", **here).returncode == 0
    assert hub.transfers == [0]
    assert not (tmp_path / "here/models").exists()
    one, other = (tmp_path / folder / "hps-v2.1.safetensors" for folder in ("stick", "other"))
    assert file_hash(one) == file_hash(other) == file_hash(small)


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
    variables: dict[str, str], expected: str, hub: Hub, small: Path, cli_python: Cli, tmp_path: Path
) -> None:
    hub.put(REPOSITORY, FILE, small.read_bytes())
    environment = {name: str(tmp_path / folder) for name, folder in variables.items()}
    environment |= {"HPSKIT_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    assert cli_python(HUB_FILE, **environment).stdout == f"{tmp_path / expected / CACHED}\n"
    assert (tmp_path / expected / CACHED).read_bytes() == small.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {expected.partition("/")[0]}


@pytest.mark.parametrize("trouble", ["offline", "unreachable", 401, 404, 500])
def test_a_cached_original_is_enough_without_a_hub(
    trouble: str | int, hub: Hub, small: Path, cli_python: Cli, online: dict[str, str], tmp_path: Path
) -> None:
    in_cache(tmp_path / "cache", small)
    if isinstance(trouble, int):
        hub.status = trouble
    else:
        online |= {"offline": {"HF_HUB_OFFLINE": "1"}, "unreachable": {"HF_ENDPOINT": "http://127.0.0.1:9"}}[trouble]
    done = cli_python(HUB_FILE, **online)
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'cache' / CACHED}\n", "")


def in_cache(cache: Path, source: Path, *, shared: bool = False) -> Path:
    """Lay a file into a Hugging Face cache, as a download does; `shared` as one over Xet since huggingface_hub 2."""
    folder = cache / "models--xswu--HPSv2"
    blob = folder / "blobs" / sha256_file(source)
    link = cache / CACHED
    for parent in (blob.parent, link.parent, folder / "refs"):
        parent.mkdir(parents=True)
    (folder / "refs/main").write_text(COMMIT)
    link.symlink_to(f"../../blobs/{blob.name}")
    if not shared:
        shutil.copyfile(source, blob)
        return blob
    store = cache / "blobs/ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    shutil.copyfile(source, store)
    blob.symlink_to(f"../../blobs/ab/{store.name}")
    return store


def test_a_cache_with_shared_blobs_is_understood(small: Path, cli: Cli, tmp_path: Path) -> None:
    store = in_cache(tmp_path / "cache", small, shared=True)
    offline = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HPSKIT_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = cli("models", "fetch", "hps-v2.1", **offline)
    assert done.returncode == 0, done.stderr
    (tmp_path / "home/models/hps-v2.1.safetensors").unlink()
    flip(store)
    assert_one_line(cli("models", "fetch", "hps-v2.1", **offline), FILE, "the hub announced")
    assert files_in(tmp_path / "cache") == ["main"]


def test_a_damaged_original_is_refused_removed_and_fetched_again(
    hub: Hub, small: Path, cli: Cli, tmp_path: Path
) -> None:
    file = hub.put(REPOSITORY, FILE, small.read_bytes())
    flip(in_cache(tmp_path / "cache", small))
    environment = {
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HPSKIT_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub.url,
    }
    refused = cli("models", "fetch", "hps-v2.1", **environment)
    assert_one_line(refused, FILE, file.sha256, "run the same command again")
    assert not (tmp_path / "home/models/hps-v2.1.safetensors").exists()
    assert cli("models", "fetch", "hps-v2.1", **environment).returncode == 0
    assert hub.transfers == [0]
    assert file_hash(tmp_path / "home/models/hps-v2.1.safetensors") == file_hash(small)


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


def test_a_killed_download_goes_on_where_it_stopped(
    start: Start, hub: Hub, large: Path, cli: Cli, home: Path, online: dict[str, str], tmp_path: Path
) -> None:
    file = hub.put(REPOSITORY, FILE, large.read_bytes())
    hub.stop_after = 2 * CHUNK + 1000
    partial = tmp_path / f"cache/models--xswu--HPSv2/blobs/{file.sha256}.incomplete"
    process = start(FETCH, **online)
    wait_until(lambda: partial.exists() and partial.stat().st_size == 2 * CHUNK, process)
    process.kill()
    process.finish()
    assert not (tmp_path / "cache" / CACHED).exists()
    assert not (home / "models/hps-v2.1.safetensors").exists()

    done = cli("models", "fetch", "hps-v2.1", **online)
    assert done.returncode == 0, done.stderr
    assert hub.transfers == [0, 2 * CHUNK]
    assert (tmp_path / "cache" / CACHED).read_bytes() == large.read_bytes()
    assert file_hash(home / "models/hps-v2.1.safetensors") == file_hash(large)
    assert not partial.exists()


def test_a_cut_connection_goes_on_in_the_same_run(
    hub: Hub, large: Path, cli_python: Cli, online: dict[str, str], tmp_path: Path
) -> None:
    hub.put(REPOSITORY, FILE, large.read_bytes())
    hub.cut_after = CHUNK + 1000
    done = cli_python(HUB_FILE, **online)
    assert done.returncode == 0, done.stderr
    assert hub.transfers == [0, CHUNK]
    assert (tmp_path / "cache" / CACHED).read_bytes() == large.read_bytes()


@pytest.mark.parametrize("remainder", ["right", "too long"])
def test_a_hub_that_sends_everything_again_does_no_harm(
    remainder: str, hub: Hub, small: Path, cli_python: Cli, online: dict[str, str], tmp_path: Path
) -> None:
    content = small.read_bytes()
    file = hub.put(REPOSITORY, FILE, content)
    hub.ranges = remainder != "right"
    partial = tmp_path / f"cache/models--xswu--HPSv2/blobs/{file.sha256}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content[:500] if remainder == "right" else b"x" * (file.size + 1))
    assert cli_python(HUB_FILE, **online).returncode == 0
    assert hub.transfers == ([500] if remainder == "right" else [file.size + 1, 0])
    assert (tmp_path / "cache" / CACHED).read_bytes() == content


@pytest.mark.parametrize("damage", ["on the way", "in what had arrived"])
def test_a_corrupt_download_is_refused_and_removed(
    damage: str,
    hub: Hub,
    small: Path,
    cli: Cli,
    cli_python: Cli,
    home: Path,
    online: dict[str, str],
    tmp_path: Path,
) -> None:
    content = small.read_bytes()
    file = hub.put(REPOSITORY, FILE, content)
    partial = tmp_path / f"cache/models--xswu--HPSv2/blobs/{file.sha256}.incomplete"
    if damage == "on the way":
        file.content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    else:
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"x" * 500)
    refused = cli("models", "fetch", "hps-v2.1", **online)
    assert_one_line(refused, FILE, file.sha256, "run the same command again")
    assert files_in(tmp_path / "cache") == []
    assert files_in(home) == []
    file.content = content
    assert cli_python(HUB_FILE, **online).returncode == 0
    assert (tmp_path / "cache" / CACHED).read_bytes() == small.read_bytes()


@pytest.mark.parametrize(
    ("status", "reason", "asked"),
    [
        (None, "status 404", 1),
        (401, "status 401", 1),
        (500, "status 500", 3),
        (0, "the hub cannot be reached (", 0),
        (-1, "HF_HUB_OFFLINE is set", 0),
    ],
    ids=["404", "401", "500", "unreachable", "offline"],
)
def test_what_cannot_be_had_is_said_in_one_line(
    status: int | None, reason: str, asked: int, hub: Hub, cli: Cli, home: Path, online: dict[str, str]
) -> None:
    hub.status = status
    if status == 0:
        online["HF_ENDPOINT"] = "http://127.0.0.1:9"
    if status == -1:
        online["HF_HUB_OFFLINE"] = "1"
    result = cli("models", "fetch", "hps-v2.1", **online)
    assert_one_line(
        result,
        f"{REPOSITORY}/{FILE}: ",
        reason,
        "run `hpskit models fetch hps-v2.1 --to DIR` (3.9 GB)",
        f"put DIR/hps-v2.1.safetensors into {home / 'models'} here",
    )
    assert result.stderr.count("\n") == 1, "the hub's client made noise"
    assert len(hub.requests) == asked


def test_a_hub_that_goes_away_in_the_middle(
    hub: Hub, large: Path, cli: Cli, cli_python: Cli, online: dict[str, str], home: Path
) -> None:
    """What has arrived is kept, and the error says so."""
    file = hub.put(REPOSITORY, FILE, large.read_bytes())
    file.content = file.content[: CHUNK + 1000]  # the rest does not come
    result = cli("models", "fetch", "hps-v2.1", **online)
    assert_one_line(result, FILE, "run the same command again to go on")
    file.content = large.read_bytes()
    assert cli_python(HUB_FILE, **online).returncode == 0
    assert hub.transfers[-1] >= CHUNK


def test_a_disk_that_fills_up_during_the_download(
    start: Start, hub: Hub, large: Path, cli_python: Cli, home: Path, online: dict[str, str], tmp_path: Path
) -> None:
    hub.put(REPOSITORY, FILE, large.read_bytes())
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({CHUNK + 1000},) * 2); "
    assert_one_line(start(limit + FETCH, **online).finish(), str(tmp_path / "cache"), "File too large", "make room")
    assert files_in(home) == []
    assert cli_python(HUB_FILE, **online).returncode == 0
    assert hub.transfers[-1] >= CHUNK
    assert (tmp_path / "cache" / CACHED).read_bytes() == large.read_bytes()


def test_a_file_system_without_links_holds_the_download_once(
    hub: Hub, small: Path, cli_python: Cli, online: dict[str, str], tmp_path: Path
) -> None:
    hub.put(REPOSITORY, FILE, small.read_bytes())
    assert cli_python(HUB_FILE, HF_HUB_DISABLE_SYMLINKS="1", **online).returncode == 0
    assert not (tmp_path / "cache" / CACHED).is_symlink()
    assert [name for name in files_in(tmp_path / "cache") if len(name) == 64] == []


def test_files_of_datasets_small_and_large(
    hub: Hub, cli_python: Cli, online: dict[str, str], home: Path, tmp_path: Path
) -> None:
    hub.put("datasets/zhwang/HPDv2", "benchmark/anime.json", b'["a cat"]', large=False)
    hub.put("datasets/zhwang/HPDv2", "train.json", b"[1, 2]" * 100)
    code = """
from hpskit.hub import hub_file
for name in ("benchmark/anime.json", "train.json", "none.json"):
    print(hub_file("zhwang/HPDv2", name, repo_type="dataset", cure="Ask.").read_bytes()[:9])
"""
    result = cli_python(code, **online)
    assert result.stdout.splitlines() == ["b'[\"a cat\"]'", "b'[1, 2][1,'"]
    assert result.stderr.strip().endswith(
        "zhwang/HPDv2/none.json: is not on this machine and the hub answered with status 404; Ask."
    )
    assert (tmp_path / f"cache/datasets--zhwang--HPDv2/snapshots/{COMMIT}/train.json").is_symlink()


# --- several processes, and processes that die


def happens_soon(condition: Callable[[], bool]) -> bool:
    """For what must not happen: it had a second for it, many times what it would take."""
    deadline = time.monotonic() + 1
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("homes", [1, 2], ids=["one home", "two homes with one cache"])
def test_two_processes_fetch_at_once(
    start: Start, homes: int, hub: Hub, large: Path, home: Path, online: dict[str, str], tmp_path: Path
) -> None:
    hub.put(REPOSITORY, FILE, large.read_bytes())
    hub.stop_after = CHUNK + 1000
    first = start(FETCH, **online)
    wait_until(hub.stopped.is_set, first)
    other = home if homes == 1 else tmp_path / "other"
    second = start(FETCH, **online, HPSKIT_HOME=str(other))
    if homes == 2:
        wait_until(lambda: sum(request.method == "HEAD" for request in hub.requests) == 2, second)
        assert not happens_soon(lambda: len(hub.transfers) > 1), "both download"
    hub.release.set()
    for process in (first, second):
        done = process.finish()
        assert done.returncode == 0, done.stderr
    assert hub.transfers == [0, CHUNK]
    for folder in (home, other):
        assert files_in(folder / "models") == ["hps-v2.1.safetensors"]
        assert file_hash(folder / "models/hps-v2.1.safetensors") == file_hash(large)


def test_two_processes_convert_at_once(start: Start, large: Path, home: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"""
import torch
from pathlib import Path
from hpskit.models.store import locate
Path({str(ready)!r}).touch()
locate({str(large)!r})
"""
    folder = home / "converted"
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


def test_a_killed_conversion_leaves_no_half_file(start: Start, tmp_path: Path, home: Path) -> None:
    source = checkpoint(tmp_path / "big.pt", 25_000_000)
    process = start(f"from hpskit.models.store import locate; locate({str(source)!r})")
    folder = home / "converted"
    wait_until(lambda: any(path.stat().st_size for path in folder.glob(".*.tmp")), process)
    process.kill()
    assert process.finish().returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert list(folder.glob("big*")) == []
    assert len(files_in(folder)) == 1, "nothing was left to sweep: the kill came too late"
    assert locate(source).weight_hash == file_hash(source)
    [name] = files_in(folder)
    assert name.startswith("big-")


# --- local files


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


@pytest.mark.parametrize("damage", ["{}", "[]", '"x"', "not json", '{"stamp": 1}'])
def test_a_damaged_receipt_costs_time_only(damage: str, home: Path, small: Path) -> None:
    ready = ready_file(home, small)
    before = locate("hps-v2.1").weight_hash
    for receipt in (home / "receipts").iterdir():
        receipt.write_text(damage)
    assert locate("hps-v2.1").weight_hash == before == file_hash(ready)


def test_a_known_file_is_not_read_again(home: Path, small: Path) -> None:
    """Proved by a change that only reading would show: such a change is what `verify` is for."""
    ready = ready_file(home, small)
    before = locate("hps-v2.1").weight_hash
    flip(ready)
    assert locate("hps-v2.1").weight_hash == before
    with pytest.raises(HashMismatchError):
        verify("hps-v2.1")


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
    assert not is_path("mini")
    assert not is_path("hps-v2.1")
    (tmp_path / "hps-v2.1").write_text("x")
    assert not is_path("hps-v2.1"), "a known name is that model; a file beside it is ./hps-v2.1"
    assert is_path("./hps-v2.1")


# --- verify


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
    assert verify("hps-v2.1").recorded
    flip(ready)
    assert_one_line(cli("models", "verify", "hps-v2.1"), str(ready), file_hash(small), "delete it")
    copy = fetch(find("mini"), tmp_path)
    assert verify(copy).recorded == verify("mini").weight_hash
    flip(copy)
    for path in (ready, copy):
        with pytest.raises(HashMismatchError, check=at(path)):
            verify(path)


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


@pytest.mark.parametrize("touched", [True, False], ids=["replaced", "one byte, same time"])
def test_verify_says_that_a_pickle_has_changed_since_its_first_use(touched: bool, home: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine.pt", 1000)
    first = locate(path)
    if touched:
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
    pickle = checkpoint(tmp_path / "mine.pt", 10)
    other = checkpoint(tmp_path / "other.pt", 10)
    locate(pickle)
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    code = f"""
from hpskit.errors import OutputError
from hpskit.models.registry import find
from hpskit.models.store import cached, fetch, locate, verify
for name in ("hps-v2.1", {str(pickle)!r}):
    print(locate(name).weight_hash == verify(name).weight_hash)
print(fetch(find("hps-v2.1")).name)
if cached(find("mini")):
    assert locate("mini").weight_hash == verify("mini").recorded
    assert fetch(find("mini")) == find("mini").embedded
try:
    locate({str(other)!r})
except OutputError as error:
    print(error)
"""
    result = without_privileges("-c", code)
    for folder in folders:
        folder.chmod(0o755)
    lines = result.stdout.splitlines()
    assert lines[:3] == ["True", "True", "hps-v2.1.safetensors"], result.stderr
    assert lines[3].startswith(f"{home / 'converted'}/other-")
    assert lines[3].endswith(
        "cannot be written (Permission denied); choose a folder that you may write to, for example by HPSKIT_HOME"
    )


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_that_may_not_be_read(ending: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / f"mine{ending}"
    if ending == ".pt":
        checkpoint(path, 10)
    else:
        save_file({"a": torch.zeros(2)}, path)
    path.chmod(0)
    result = without_privileges("-m", "hpskit", "models", "verify", path)
    assert_one_line(result, f"{path}: cannot be read (Permission denied")
    assert result.stderr.count("\n") == 1


def test_a_target_that_is_no_folder(home: Path, small: Path, tmp_path: Path) -> None:
    ready_file(home, small)
    (tmp_path / "stick").write_text("x")
    with pytest.raises(OutputError, check=at(tmp_path / "stick")):
        fetch(find("hps-v2.1"), tmp_path / "stick")
