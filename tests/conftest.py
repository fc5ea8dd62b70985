"""Fixtures that everything shares: photographs, judgements of them, a tiny CLIP, and a home of the tests' own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.modules["conftest"] = sys.modules[__name__]  # tests take types from here; it must not be run a second time

# Before anything imports huggingface_hub, which reads them once: nothing leaves this machine, nothing that a
# developer has cached is seen, and nothing of the tests stays in the developer's cache.
_HOME = tempfile.TemporaryDirectory(prefix="hpskit-tests-")
for name in ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HPS_ROOT"):
    os.environ.pop(name, None)
os.environ["HPSKIT_HOME"] = f"{_HOME.name}/hpskit"
os.environ["HPS_ROOT"] = f"{_HOME.name}/hpsv2"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["COLUMNS"] = "120"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: tests of Ctrl-C would hang
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; torch's threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import open_clip  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from PIL import Image  # noqa: E402

from command_inputs import write_inputs  # noqa: E402
from forked_process import ForkedProcess  # noqa: E402
from hpskit.scoring.contract import Candidate  # noqa: E402
from small_inputs import Brightness, write_renders, write_suite  # noqa: E402

settings.register_profile("hpskit", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("hpskit")

TINY = "ViT-tiny-test"
_TINY_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


_REAL_DATA = Path(os.environ.get("HPSKIT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
collect_ignore = [] if _REAL_DATA.is_dir() else ["test_real_data.py"]
"""A developer may have real data beside the checkout; nothing depends on them."""


SLOWEST = (  # so that no process is left with one of them at the end
    *("test_tiny", "test_golden", "test_docs", "test_trainer", "test_fetch", "test_killed", "test_files_of_others"),
    *("test_distributed", "test_full_disk", "test_baselines", "test_convert", "test_learning", "test_stage"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slowest files first."""
    items.sort(key=lambda item: SLOWEST.index(item.path.stem) if item.path.stem in SLOWEST else len(SLOWEST))


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """Two photographs that scikit-learn ships: a temple and a flower, 640x427."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(array) for array in load_sample_images().images]


@pytest.fixture(scope="session")
def photograph_files(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / "temple.jpg", folder / "flower.jpg"]
    for path, photograph in zip(paths, photographs, strict=True):
        photograph.save(path, quality=92)
    return paths


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small inputs of every kind that commands take; changed by none."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of the published layout, {"state_dict": …}, small enough to be loaded in every test."""
    folder = tmp_path_factory.mktemp("tiny")
    config = folder / f"{TINY}.json"
    config.write_text(json.dumps(_TINY_CONFIG))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model = open_clip.create_model(TINY, load_weights=False)
    path = folder / "tiny.pt"
    torch.save({"state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run `hpskit …`: in this process, which has imported everything already, or (with environment variables as keyword
    arguments) in one of its own."""

    def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["hpskit", *map(str, arguments)]
        if not environment:
            return run_here(command, cwd)
        return ForkedProcess(command_code(command), cwd=cwd, **environment).finish()

    return run


def command_code(command: list[str]) -> str:
    """The piece of Python that is the command."""
    return f"import sys; sys.argv = {command!r}\nfrom hpskit.cli import main\nmain()"


def run_here(command: list[str], cwd: Path | None) -> subprocess.CompletedProcess[str]:
    """The command's `main` with its own arguments, output, folder and warnings."""
    from hpskit.cli import main

    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: object = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", command)
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        except Exception:  # noqa: BLE001  # what a process would do
            traceback.print_exc(file=errors)
            code = 1
    texts = [stream.buffer.getvalue().decode() for stream in (output, errors)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(command, int(code or 0), *texts)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def cli_python() -> Cli:
    """Run a piece of Python as a process of its own; keyword arguments are environment variables."""

    def run(code: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", str(code)]
        env = {**os.environ, **environment}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    return write_suite(tmp_path / "suite.jsonl")


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    return write_renders(tmp_path / "renders")


@pytest.fixture
def brightness() -> Candidate:
    return Candidate(label="brightness", scorer=Brightness())
