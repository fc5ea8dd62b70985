"""Checkpoints: one hash per content, whatever the container; everything else refused in one clear line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import load_state_dict_from_file
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conftest import Cli
from error_fields import at
from hpskit.errors import CheckpointError
from hpskit.models.checkpoint import Weights, file_hash, read_tensors, weight_hash, write_tensors
from hpskit.models.loading import load_network
from hpskit.models.store import locate, verify

State = dict[str, Tensor]


def state() -> State:
    generator = torch.Generator().manual_seed(0)
    return {
        "visual.weight": torch.randn(16, 8, generator=generator),
        "logit_scale": torch.tensor(4.6052),
        "bias.bf16": torch.randn(5, generator=generator).bfloat16(),
        "bias.fp16": torch.randn(5, generator=generator).half(),
        "positions": torch.arange(7),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def convert(source: Path, target: Path, metadata: dict[str, str]) -> str:
    return write_tensors(read_tensors(source), target, metadata)


def content_hash(tensors: State) -> str:
    return weight_hash((name, tensors[name]) for name in sorted(tensors))


def saved(folder: Path, value: object, name: str = "x.pt", **options: object) -> Path:
    path = folder / name
    torch.save(value, path, **options)
    return path


def compressed(folder: Path) -> Path:
    """A checkpoint that somebody unpacked and packed again: its tensors cannot be mapped into memory."""
    path = folder / "packed-again.pt"
    with zipfile.ZipFile(saved(folder, state())) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return path


def as_safetensors(folder: Path) -> Path:
    save_file(state(), folder / "x.safetensors")
    return folder / "x.safetensors"


CONTAINERS: dict[str, Callable[[Path], Path]] = {
    "as published": lambda d: saved(d, {"state_dict": state(), "epoch": 3}),
    "raw state dict": lambda d: saved(d, state()),
    "format before 1.6": lambda d: saved(d, {"state_dict": state()}, _use_new_zipfile_serialization=False),
    "from several GPUs": lambda d: saved(d, {f"module.{name}": tensor for name, tensor in state().items()}),
    "other order": lambda d: saved(d, dict(reversed(state().items()))),
    "parameters": lambda d: saved(
        d, {n: nn.Parameter(t, requires_grad=t.is_floating_point()) for n, t in state().items()}
    ),
    "ending in capitals": lambda d: saved(d, state(), "X.PTH"),
    "packed again": compressed,
    "safetensors of others": as_safetensors,
    "not contiguous": lambda d: saved(d, {**state(), "visual.weight": state()["visual.weight"].t().contiguous().t()}),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_hash_names_the_content_whatever_the_container(container: str, tmp_path: Path) -> None:
    source = CONTAINERS[container](tmp_path)
    target = tmp_path / "out.safetensors"
    assert convert(source, target, {"name": "mine"}) == file_hash(source) == file_hash(target) == content_hash(state())
    weights = Weights(path=target, origin=target)
    assert weights.metadata() == {"name": "mine", "weight_hash": content_hash(state())}
    read = dict(weights.tensors())
    assert list(read) == sorted(state())
    for name, tensor in state().items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s | {"logit_scale": s["logit_scale"] + 1e-6},
        lambda s: s | {"logit_scale": s["logit_scale"].reshape(1)},
        lambda s: s | {"bias.fp16": s["bias.fp16"].float()},
        lambda s: s | {"more": torch.zeros(0)},
        lambda s: {("renamed" if name == "mask" else name): tensor for name, tensor in s.items()},
        lambda s: s | {"visual.weight": s["visual.weight"].reshape(8, 16)},
    ],
    ids=["value", "shape of a scalar", "type", "an empty tensor", "name", "shape"],
)
def test_hash_changes_with_the_content(change: Callable[[State], State]) -> None:
    assert content_hash(change(state())) != content_hash(state())


def test_hash_is_what_the_documentation_says() -> None:
    tensors = {"b": torch.tensor(3, dtype=torch.int64), "a": torch.tensor([[1.0, 2.0]])}
    expected = b"a\0float32\0(1, 2)\0" + struct.pack("<2f", 1, 2) + b"b\0int64\0()\0" + struct.pack("<q", 3)
    assert content_hash(tensors) == f"sha256:{hashlib.sha256(expected).hexdigest()}"


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3, unique=True))
def test_equal_weights_give_equal_files_that_others_read(names: list[str]) -> None:
    """safetensors alone orders the two entries of the metadata by chance."""
    with tempfile.TemporaryDirectory() as folder:
        tensors = {f"layer.{name}": torch.arange(number + 1) for number, name in enumerate(names)}
        paths = [Path(folder) / f"{number}.safetensors" for number in range(4)]
        for path in paths:
            write_tensors(tensors, path, {"name": "a net"})
        assert len({path.read_bytes() for path in paths}) == 1
        assert Weights(path=paths[0], origin=paths[0]).metadata()["name"] == "a net"
        for read in (load_file, load_state_dict_from_file):
            found = read(paths[0])
            assert found.keys() == tensors.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_shared_storages_are_written_apart(tmp_path: Path) -> None:
    base = torch.arange(16.0).reshape(4, 4)
    tied = {"a": base, "b": base, "row": base[1], "turned": base.t(), "spread": base[0, :1].expand(5)}
    source = saved(tmp_path, tied)
    target = tmp_path / "out.safetensors"
    assert convert(source, target, {}) == content_hash(tied) == file_hash(target)
    for name, tensor in Weights(path=target, origin=target).tensors():
        assert torch.equal(tensor, tied[name]), name


class Burglar:
    """Unpickled by Python it makes a file; unpickled by nobody it does nothing."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("container", ["zip", "before 1.6", "bare pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(container: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    value = {"state_dict": {"a": Burglar(mark)}}
    if container == "bare pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=container == "zip")
    refusal = at(path, expected="a PyTorch checkpoint") if container == "bare pickle" else at(path, found="code")
    with pytest.raises(CheckpointError, check=refusal):
        convert(path, tmp_path / "out.safetensors", {})
    assert not mark.exists()
    assert not (tmp_path / "out.safetensors").exists()
    with path.open("rb") as handle:  # the trap was armed: what is not refused does run
        if container == "bare pickle":
            pickle.load(handle)
        else:
            torch.load(handle, weights_only=False)
    assert mark.exists()


def torchscript(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; its files remain
        torch.jit.script(nn.Linear(2, 2)).save(str(folder / "x.pt"))
    return folder / "x.pt"


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thesis/chapter1.docx", "It was a dark and stormy night")
    return path


def optimizer(folder: Path) -> Path:
    layer = nn.Linear(2, 2)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.zeros(1, 2)).sum().backward()
    adam.step()
    return saved(folder, adam.state_dict())


def quantized() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated; files with such tensors remain
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)


class Greedy:
    """Unpickled, also by torch with `weights_only`, it takes ten gigabytes."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (10**10,)


def trap(folder: Path, kind: str) -> Path:
    """A small file that asks for a lot of memory."""
    path, one = folder / "x.pt", torch.zeros(1000)
    if kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/data.pkl", bytes(100_000_000))
        return path
    states: dict[str, dict[str, object]] = {
        "expanded": {"a": one[:1].expand(10**6, 10**6)},
        "strided": {"a": one.as_strided((10**5, 10**5), (0, 0))},
        "one storage under many names": {f"a{number}": one[number % 9 :] for number in range(2000)},
        "bytes": {"a": Greedy()},
    }
    return saved(folder, {"state_dict": states[kind]})


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def link(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def sparse(path: Path) -> Path:
    """What a download leaves that has reserved its space and was cut off."""
    size = 300 * 10**9
    header = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + size)
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut zip": (lambda d: cut(saved(d, state()), 0.6), "begins with b'PK"),
    "cut old format": (lambda d: cut(saved(d, state(), _use_new_zipfile_serialization=False), 0.6), "cut short"),
    "cut safetensors": (lambda d: cut(as_safetensors(d), 0.6), "safetensors"),
    "empty": (lambda d: written(d / "x.pt", b""), "begins with b''"),
    "empty safetensors": (lambda d: written(d / "x.safetensors", b""), "safetensors"),
    "text": (lambda d: written(d / "x.pt", b"<!DOCTYPE html>\n<p>404"), "begins with b'<!DOCTYPE html>"),
    "git LFS pointer": (lambda d: written(d / "x.bin", b"version https://git-lfs.github.com/spec/v1"), "git-lfs"),
    "JSON as safetensors": (lambda d: written(d / "x.safetensors", b'{"a": 1}' * 9), "safetensors"),
    "other zip": (lambda d: zipped(d / "x.pt"), "begins with b'PK"),
    "TorchScript": (torchscript, "code"),
    "whole module": (lambda d: saved(d, nn.Linear(2, 2)), "code"),
    "optimizer": (optimizer, "'state', which is a dict"),
    "list": (lambda d: saved(d, [torch.zeros(2)]), "holds a list"),
    "lone tensor": (lambda d: saved(d, torch.zeros(2)), "holds a Tensor"),
    "nothing": (lambda d: saved(d, {"state_dict": {}}), "holds nothing"),
    "number in the state": (
        lambda d: saved(d, {"state_dict": {**state(), "epoch": 3}}),
        "'epoch', which is a int",
    ),
    "sparse": (lambda d: saved(d, {"a": torch.eye(3).to_sparse()}), "a, which is sparse_coo"),
    "quantized": (lambda d: saved(d, {"a": quantized()}), "a, which is strided quint8"),
    "complex": (lambda d: saved(d, {"a": torch.zeros(2, dtype=torch.complex128)}), "a, which is strided complex128"),
    "without content": (lambda d: saved(d, {"a": torch.zeros(2, device="meta")}), "on meta"),
    "one name twice": (
        lambda d: saved(d, {"a": torch.zeros(1), "module.a": torch.ones(1)}),
        "with and without 'module.'",
    ),
    "expanded": (lambda d: trap(d, "expanded"), "says that they are 4,000,000,000,000"),
    "strided": (lambda d: trap(d, "strided"), "says that they are 40,000,000,000"),
    "one storage under many names": (lambda d: trap(d, "one storage under many names"), "says that they are"),
    "zip bomb": (lambda d: trap(d, "zip bomb"), "says that they are 100,000,000"),
    "ten gigabytes of bytes": (lambda d: trap(d, "bytes"), "code"),
    "pipe": (lambda d: pipe(d / "x.pt"), "not a regular file"),
    "pipe as safetensors": (lambda d: pipe(d / "x.safetensors"), "not a regular file"),
    "device": (lambda d: link(d / "x.pt", "/dev/zero"), "not a regular file"),
    "endless link": (lambda d: link(d / "x.pt", "x.pt"), "Too many levels"),
    "holes": (lambda d: sparse(d / "x.pt"), "were ever written"),
    "holes as safetensors": (lambda d: sparse(d / "x.safetensors"), "were ever written"),
    "long name": (lambda d: saved(d, {"a" * 10**6: 3}), "a…"),
    "missing": (lambda d: d / "x.pt", "No such file"),
    "missing safetensors": (lambda d: d / "x.safetensors", "No such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_checkpoint_is_refused_in_one_clear_line(case: str, tmp_path: Path) -> None:
    make, found = REFUSED[case]
    path = make(tmp_path)
    for use in (read_tensors, file_hash):
        with pytest.raises(CheckpointError, check=at(path, found=found)) as refusal:
            use(path)
        assert refusal.value.cure
        assert len(str(refusal.value)) < 1_000


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before 1.6"])
def test_damage_anywhere_ends_in_a_clear_line_or_in_a_hash(
    old_format: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = saved(folder, {"state_dict": state()}, _use_new_zipfile_serialization=not old_format).read_bytes()
    path = folder / "damaged.pt"

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=3))
    def check(changes: list[tuple[int, int]]) -> None:
        content = bytearray(whole)
        for place, byte in changes:
            content[place] = byte
        path.write_bytes(content)
        try:
            assert file_hash(path).startswith("sha256:")
        except CheckpointError as error:
            assert (error.place, bool(error.found), bool(error.cure)) == (str(path), True, True)  # noqa: PT017

    check()


@pytest.mark.parametrize(
    "text",
    ["{not json", "[" * 100_000, "[1]", '{"name": 1}', '{"name": "\\u001b[31m"}', json.dumps({"name": "a" * 9999})],
)
def test_metadata_that_is_not_ours_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(state(), path, metadata={"hpskit": text})
    with pytest.raises(CheckpointError, check=at(path, found="metadata")):
        Weights(path=path, origin=path).metadata()


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"kind": "random", "seed": "x"}, "cannot be used as random (ValueError"),
        ({"kind": "unheard-of"}, "'unheard-of'"),
        ({"architecture": "hf-hub:somebody/something"}, "is not one of open_clip's"),
    ],
)
def test_what_a_file_says_of_its_network_is_checked(metadata: dict[str, str], found: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(state(), path, metadata={"hpskit": json.dumps(metadata)})
    with pytest.raises(CheckpointError, check=at(found=found)):
        load_network(path)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.tensor([1.0, float("nan")]), "holds nan"),
        (torch.tensor([1.0, float("-inf")]).half(), "holds -inf"),
        (torch.ones(2).to(torch.float8_e5m2), "holds float8_e5m2"),
    ],
    ids=["nan", "infinity", "8 bits"],
)
def test_weights_that_no_score_can_come_of_are_refused(value: Tensor, found: str, name: str, tmp_path: Path) -> None:
    tensors = {**state(), "bad": value}
    path = saved(tmp_path, tensors) if name == "x.pt" else tmp_path / name
    if name == "x.safetensors":
        save_file(tensors, path)
    for use in (locate, verify):
        with pytest.raises(CheckpointError, check=at(f"{path}: bad", found=found)):
            use(path)


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, cli_python: Cli) -> None:
    source = saved(tmp_path, {"a": torch.zeros(300_000)})
    target = tmp_path / "out" / "x.safetensors"
    code = f"""
import resource, sys
from pathlib import Path
from hpskit.errors import OutputError
from hpskit.models.checkpoint import read_tensors, write_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_tensors(read_tensors(Path({str(source)!r})), Path({str(target)!r}), {{}})
except OutputError as error:
    sys.exit(str(error))
"""
    result = cli_python(code)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{target}: cannot be written (")
    assert "File too large" in result.stderr
    assert "make room" in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(target.parent.iterdir()) == []
