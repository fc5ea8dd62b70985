"""Every command and every piece of Python in README and docs is run, and what they claim about options is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

from conftest import TINY, Cli
from hpskit import hpsv2
from hpskit.benchmark.run import BenchmarkRun, run
from hpskit.cli import app, main
from hpskit.models import loading
from hpskit.scoring.contract import Candidate
from hpskit.scoring.scorer import load_scorer
from hpskit.training.export import Export, export
from hub_server import serve
from judged_photographs import write_data, write_votes
from made_up_task import write_task
from run_material import write_trained
from suite_material import write_benchmark

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    pytest.param(page, line[2:], id=f"{page.stem}: {line[2:60]}")
    for page in PAGES
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("$ ")
]
PYTHON = [
    pytest.param(block, id=f"{page.stem} {number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    if "onnxruntime" not in block  # of an export that takes its time: see below
]


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages talk about, to work in."""
    folder = shutil.copytree(material, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def material(
    photographs: list[Image.Image], benchmarked: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Those files; changed by none."""
    folder = tmp_path_factory.mktemp("material")
    photographs[0].save(folder / "a.jpg")
    photographs[1].save(folder / "b.png")
    rows = [{"image": name, "prompt": "a cat"} for name in ("a.jpg", "b.png")]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_data(folder / "HPDv2", photographs, groups=3)
    write_votes(folder / "votes", photographs)
    write_task(folder / "judged", pairs=8, seed=0)
    write_task(folder / "judged", pairs=4, seed=0, held_out=True)
    broken = [
        {"prompt": "a cat", "file_path": ["a.jpg", "b.png"], "human_preference": label} for label in ([1, 0], [3])
    ]
    (folder / "broken.json").write_text(json.dumps(broken))
    (folder / "items.csv").write_text("image,prompt\na.jpg,a cat\nmissing.png,a cat\n")
    own = re.search(r"^```python\n(# brightness\.py\n.*?)^```", (ROOT / "docs/baselines.md").read_text(), re.S | re.M)
    assert own is not None
    (folder / "brightness.py").write_text(own[1])
    shutil.copytree(benchmarked, folder, dirs_exist_ok=True)
    (folder / "runs").mkdir()
    (folder / "runs/mine").symlink_to(trained)  # tens of megabytes that no command changes
    return folder


@pytest.fixture(scope="session")
def benchmarked(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of eight prompts in two categories, the images of two models, and their results."""
    folder = tmp_path_factory.mktemp("benchmarked")
    write_benchmark(folder, photographs)
    scorer = load_scorer("mini")
    for name in ("ours", "base"):
        out = folder / f"results/{name}.json"
        config = BenchmarkRun(
            suite=folder / "suite.jsonl", images=folder / f"renders/{name}", name=name.title(), out=out
        )
        run(config, lambda: [Candidate(label="mini", scorer=scorer)])
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trained(tmp_path_factory.mktemp("trained") / "mine")


def needs_a_shell(command: str) -> bool:
    """Whether a line is more than one hpskit command with its output in a file."""
    words = shlex.split(command)
    return words[0] != "hpskit" or any(word in ("|", "||", "&&", ";") or word.startswith("$") for word in words)


def needs_a_process(command: str) -> bool:
    """Whether it does, or speaks with the hub."""
    return needs_a_shell(command) or "fetch" in shlex.split(command) or "hps-v2.1" in command


@pytest.mark.parametrize(("page", "command"), [case for case in COMMANDS if not needs_a_process(str(case.values[1]))])
def test_commands(page: Path, command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has imported everything already."""
    words = shlex.split(command)
    target = words[words.index(">") + 1] if ">" in words else os.devnull
    monkeypatch.setattr(sys, "argv", words[: words.index(">")] if ">" in words else words)
    with warnings.catch_warnings(), open(target, "w", encoding="utf-8") as output:
        warnings.simplefilter("default")  # as in a process of its own
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, None)


@pytest.mark.parametrize(("page", "command"), [case for case in COMMANDS if needs_a_process(str(case.values[1]))])
def test_commands_in_a_process(page: Path, command: str, place: Path, cli: Cli, tmp_path: Path) -> None:
    """With a hub of our own that offers small weights under the published name. Scoring with a CLIP of gigabytes is
    taken to the point where its weights are needed; the slow tests go on from there."""
    weights = tmp_path / "weights.pt"
    torch.save({"state_dict": {"logit_scale": torch.tensor(4.6)}}, weights)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "hpskit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hpskit "$@"\n')
    (bin_folder / "hpskit").chmod(0o755)
    path = f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with serve() as hub:
        hub.put("xswu/HPSv2", "HPS_v2.1_compressed.pt", weights.read_bytes())
        environment = {**os.environ, "PATH": path, "HPSKIT_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
        if "verify" in command:
            target = ["--to", "carry/"] if "carry" in command else []
            fetched = cli("models", "fetch", "hps-v2.1", *target, **environment)
            assert fetched.returncode == 0, fetched.stderr
        if needs_a_shell(command):
            done = subprocess.run(["sh", "-ec", command], env=environment, capture_output=True, text=True, check=False)
        else:
            done = cli(*shlex.split(command)[1:], **environment)
    if "--model hps-v2.1" in command:
        assert done.returncode == 2
        assert "is not a checkpoint of ViT-H-14" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", PYTHON)
def test_python(block: str, place: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "hpsv2" in block:  # the same calls on a tiny network
        monkeypatch.setattr(loading, "DEFAULT_ARCHITECTURE", TINY)
        monkeypatch.setitem(hpsv2._VERSIONS, "v2.1", str(tiny_checkpoint))
        hpsv2._network.cache_clear()
        hpsv2._scorer.cache_clear()
    else:
        assert load_scorer("mini").info.name == "mini"
    exec(compile(block, "example", "exec"), {})


@pytest.mark.slow
def test_onnx_without_hpskit(place: Path) -> None:
    """The page's own code, from image files and a prompt to the scores that hpskit gives."""
    pytest.importorskip("onnxruntime")
    (block,) = re.findall(
        r"^```python\n([^`]*onnxruntime.*?)^```", (ROOT / "docs/ablations.md").read_text(), re.S | re.M
    )
    export(Export(source=Path("runs/mine"), layout="onnx", out=Path("mine-onnx")))
    found: dict[str, Any] = {}
    exec(compile(block, "example", "exec"), found)
    expected = load_scorer("runs/mine/model.safetensors", precision="fp32").score(["a.jpg", "b.png"], "a cat")
    assert found["scores"] == pytest.approx(expected.numpy(), abs=1e-3)


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) > 10
    assert len(PYTHON) > 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def options_of(command: Any) -> set[str]:
    """Every option of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*(options_of(inner) for inner in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_pages_name_exist(page: Path) -> None:
    known = options_of(typer.main.get_command(app))
    makefile = (ROOT / "Makefile").read_text()
    for block in re.findall(r"^```(?:console|bash)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for command in re.findall(r"\bhpskit (.*)", block.replace("\\\n", " ")):
            for option in re.findall(r"(?<!\S)--[a-z-]+", command):
                assert option in known, option
        for target in re.findall(r"^make ([a-z-]+)", block, re.MULTILINE):
            assert f"\n{target}:" in makefile, target
