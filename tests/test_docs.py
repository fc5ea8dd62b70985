"""Every command and every piece of Python in README and docs is run, and what they claim about options is there."""

from __future__ import annotations

import itertools
import operator
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

from check_commands import check
from conftest import TINY, Cli
from golden.make import CHAINS
from hpskit import hpsv2
from hpskit.annotation import people
from hpskit.annotation.answers import Answer
from hpskit.annotation.assignment import get_task
from hpskit.annotation.submission import submit
from hpskit.annotation.web.serving import opened
from hpskit.cli import app
from hpskit.models import loading
from hpskit.scoring.scorer import load_scorer
from hpskit.training.export import Export, export
from hub_server import serve
from run_material import write_trained
from small_inputs import write_votes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_THE_DEMO = (ROOT / "README.md").read_text().partition("## Score images")[2].partition("## Models")[0]
"""Runs in what the demo leaves; see test_tiny.py."""
COMMANDS = list(
    dict.fromkeys(
        line.removeprefix("$ ")
        for page in PAGES
        for block in re.findall(
            r"^```console\n(.*?)^```", page.read_text().replace(OF_THE_DEMO, ""), re.DOTALL | re.MULTILINE
        )
        for line in block.splitlines()
        if line.startswith("$ ")
    )
)
SHORT = operator.itemgetter(slice(60))
PYTHON = [
    pytest.param(block, id=f"{page.stem} {number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text().replace(OF_THE_DEMO, ""), re.DOTALL | re.MULTILINE)
    )
    if "onnxruntime" not in block  # of an export that takes its time: see below
]


@pytest.fixture(scope="session")
def material(photographs: list[Image.Image], cli: Cli, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages talk about; changed by none."""
    folder = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("docs") / "material"))
    shutil.rmtree(folder / "ours")  # a command makes it
    write_votes(folder / "votes", photographs)
    raw = ("import", "log.jsonl", "captions.json", "--out", "raw.jsonl")
    for words in (
        raw,
        ("clean", "raw.jsonl", "--out", "clean.jsonl"),
        ("select", "clean.jsonl", "--n", 4, "--out", "prompts.jsonl"),
    ):
        assert cli("prompts", *words, cwd=folder).returncode == 0
    own = re.search(r"^```python\n(# brightness\.py\n.*?)^```", (ROOT / "docs/baselines.md").read_text(), re.S | re.M)
    assert own is not None
    (folder / "brightness.py").write_text(own[1])
    for name in ("ours", "base"):
        images = ("--images", f"renders/{name}", "--name", name.title())
        done = cli("benchmark", "run", "--suite", "suite.jsonl", *images, "--out", f"results/{name}.json", cwd=folder)
        assert done.returncode == 0, done.stderr
    write_trained(folder / "trained/mine")
    made = cli("annotate", "init", "project", "--images", "HPDv2/", "--overlap", 1, cwd=folder)
    assert made.returncode == 0, made.stderr
    write_vote(folder / "project")
    return folder


def write_vote(folder: Path) -> None:
    """One person has answered one task of a project."""
    found = opened(folder)
    people.invite(found.store, ["ann"])
    with found.store.write() as connection:
        people.set_state(connection, 0.0, "test", people.by_name(connection, "ann"), "work")
        who = people.by_name(connection, "ann")
        held = get_task(found.store, connection, who, found.project.settings).assignment
        assert held is not None
    answer = Answer(tiers=tuple((position,) for position in range(len(held.order))))
    facts = {"vote_id": str(uuid.UUID(int=1)), "revision": 1, "answer": answer, "seconds": 9.0}
    submit(found.store, found.project.settings, who, held.id, **facts)
    found.store.close()


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with these files, to work in."""
    folder = tmp_path / "work"
    shutil.copytree(material, folder, ignore=shutil.ignore_patterns("trained"))
    (folder / "runs").mkdir()
    (folder / "runs/mine").symlink_to(material / "trained/mine")  # tens of megabytes that no command changes
    monkeypatch.chdir(folder)
    return folder


def needs_a_shell(command: str) -> bool:
    """Tell whether a line is more than one hpskit command with its output in a file."""
    words = shlex.split(command)
    return words[0] != "hpskit" or any(word in ("|", "||", "&&", ";") or word.startswith("$") for word in words)


def needs_a_process(command: str) -> bool:
    """Tell whether it is, or speaks with the hub."""
    return needs_a_shell(command) or "fetch" in shlex.split(command) or "hps-v2.1" in command


def given(command: str) -> tuple[str, set[str]]:
    """The name of a command, and the options that it is given, some with what they choose."""
    words = shlex.split(command)
    options = {word for word in words if word.startswith("-")}
    options |= {
        " ".join(pair) for pair in itertools.pairwise(words) if pair[0] in ("--to", "--rule", "--recipe", "--model")
    }
    return " ".join(itertools.takewhile(str.isalpha, words[1:3])), options


def is_golden(command: str) -> bool:
    """Tell whether a golden case runs this command with these options, and more is known of what it gives."""
    name, options = given(command)
    cases = (given(f"hpskit {case.words}") for chain in CHAINS.values() for case in chain)
    return any(case == name and options <= more for case, more in cases)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not needs_a_process(command)], ids=SHORT)
def test_commands(command: str, request: pytest.FixtureRequest, cli: Cli) -> None:
    command = command.partition(" > ")[0]
    if is_golden(command):
        assert check(command)
        return
    place = request.getfixturevalue("place")
    if "annotate init" in command:
        shutil.rmtree(place / "project")
        made = ("generate", "--prompts", "prompts.jsonl", "--generators", "painters.toml", "--out", "images/")
        assert cli("images", *made, cwd=place).returncode == 0
    done = cli(*shlex.split(command)[1:], cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [command for command in COMMANDS if needs_a_process(command)], ids=SHORT)
def test_commands_in_a_process(command: str, place: Path, cli: Cli, tmp_path: Path) -> None:
    """Run a command with a hub of our own that offers small weights under the published name. Scoring with a CLIP of
    gigabytes is taken to the point where its weights are needed; the slow tests go on from there."""
    weights = tmp_path / "weights.pt"
    torch.save({"state_dict": {"logit_scale": torch.tensor(4.6)}}, weights)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
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
