"""`hpskit score` as a process: what it prints, where, and how it fails."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

import hpskit
from conftest import Cli


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory, photographs: list[Image.Image]) -> list[Path]:
    """A photograph and two worse copies of it."""
    folder = tmp_path_factory.mktemp("variants")
    photographs[0].save(folder / "clean.png")
    photographs[0].resize((40, 27)).resize(photographs[0].size).save(folder / "blurred [bold].png")
    photographs[0].save(folder / "compressed.jpg", quality=4)
    return [folder / "compressed.jpg", folder / "clean.png", folder / "blurred [bold].png"]


def test_json_is_one_document_and_agrees_with_python(cli: Cli, variants: list[Path]) -> None:
    done = cli("score", "--json", "--precision", "fp32", "a temple", *variants)
    document = json.loads(done.stdout)
    assert done.stderr == ""
    scorer = hpskit.load_scorer("mini", precision="fp32")
    assert document["scorer"] == scorer.info.to_json() | {"reads_prompt": False, "log_odds_per_point": 1.0}
    assert document["prompt"] == "a temple"
    ranking = scorer.rank("a temple", variants)
    assert [line["image"] for line in document["ranking"]] == [line.image for line in ranking]
    assert [line["score"] for line in document["ranking"]] == pytest.approx([line.score for line in ranking], abs=1e-4)
    assert [line["rank"] for line in document["ranking"]] == [1, 2, 3]


def test_skipped_rows_are_told_on_standard_error(cli: Cli, variants: list[Path], tmp_path: Path) -> None:
    """What is printed and written else is in the golden outputs."""
    items = tmp_path / "items.csv"
    items.write_text(f"image,prompt\n{variants[0].name},a temple\nnope.png,a temple\n")
    command = ("score", "--pairs", items, "--out", tmp_path / "o.jsonl", "--image-root", variants[0].parent)
    one_line(cli(*command), str(items), "1 of 2 rows cannot be scored: row 2")
    done = cli(*command, "--on-error", "skip")
    assert done.returncode == 0
    assert "warning: 1 of 2 rows skipped" in done.stderr


def test_names_and_defaults_are_not_taken_for_markup(cli: Cli, variants: list[Path]) -> None:
    table = cli("score", "a temple", *(path.name for path in variants), cwd=variants[0].parent)
    assert (table.returncode, table.stderr) == (0, "")
    assert "blurred [bold].png" in table.stdout
    assert "ViT-H-14]" in cli("score", "--help").stdout
    assert cli("--version").stdout == f"hpskit {hpskit.__version__}\n"


def one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """An error is one line on standard error, exit status 2, no traceback, nothing on standard output."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0]


def test_folders_are_taken_in_natural_order(cli: Cli, photographs: list[Image.Image], tmp_path: Path) -> None:
    folder = tmp_path / "renders"
    (folder / "more").mkdir(parents=True)
    for name in ("10.png", "2.PNG", "cat 1.jpg", ".hidden.png", "../own.png"):
        photographs[0].resize((64, 48)).save(folder / name)
    (folder / "prompts.txt").write_text("a temple")
    done = cli("score", "--json", "a temple", "renders", "own.png", cwd=tmp_path)
    left = "no images, and left out: more, prompts.txt"
    assert (done.returncode, done.stderr) == (0, f"note: renders: 3 images; {left}\n")
    order = ["renders/2.PNG", "renders/10.png", "own.png"]  # all alike; and a JPEG
    assert [line["image"] for line in json.loads(done.stdout)["ranking"] if "cat" not in line["image"]] == order
    one_line(cli("score", "a temple", folder / "more"), "more: holds no image")
    (folder / "3.png").write_bytes(b"no image")
    assert "renders/3.png: is not an image" in cli("score", "a temple", folder).stderr.splitlines()[-1]


def test_options_that_are_not_there(cli: Cli) -> None:
    for command in ("train", "ablate"):
        one_line(cli(command, "--lr", "1e-5"), "--lr: is no option but a field of the recipe", "--set lr=…")
        one_line(cli(command, "--image-blocks=2"), "--set image_blocks=…")
    assert "--model" in cli("score", "--modle", "mini").stderr
    assert "--data" in cli("train", "--date", "x").stderr


def test_bad_images(cli: Cli, variants: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(variants[1].read_bytes()[:9000])
    for name, parts in {
        "nope.png": ("No such file or directory", "check the path"),
        "empty.png": ("is empty (0 bytes)",),
        "text.png": ("is not an image", "hello"),
        "cut.png": ("cannot be decoded", "make or download it again"),
    }.items():
        one_line(cli("score", "a temple", variants[0], tmp_path / name), f"error: {tmp_path / name}", *parts)


def test_bad_words(cli: Cli, variants: list[Path], tmp_path: Path) -> None:
    image = variants[0]
    one_line(cli("score"), "prompt: is missing", 'hpskit score "PROMPT" IMAGE')
    one_line(cli("score", "a temple"), "images: there are none")
    one_line(cli("score", image), "the prompt comes first")
    one_line(cli("score", image, image), "is a file or folder; the prompt comes first")
    one_line(cli("score", "x" * 300), "images: there are none")
    one_line(cli("score", "x", image, "--device", "auto:1"), "device: is 'auto:1'")
    one_line(cli("score", "x", image, "--batch-size", str(2**63)), "batch_size: is 9223372036854775808, expected 1 to")
    one_line(cli("score", "x", image, "--model", "~nosuchuser/[/x].pt"), "home is not known")
    one_line(cli("score", "x", "https://example.org/a.jpg"), "is an address; download the image")
    one_line(cli("score", "x", tmp_path / "one.jpg", tmp_path / "two.jpg"), "one.jpg: cannot", "two.jpg: cannot")
    one_line(cli("score", "  ", image), "prompt: is empty")
    one_line(cli("score", "x", image, "--model", "minni"), "'minni'", "did you mean 'mini'?", "hps-v2.1")
    one_line(cli("score", "x", image, "--model", tmp_path / "nope.pt"), "nope.pt: cannot be read")
    one_line(cli("score", "x", image, "--device", "tpu"), "device: is 'tpu'", "auto, cpu, cuda, mps")
    one_line(cli("score", "x", image, "--arch", "ViT-B-32"), "arch: is 'ViT-B-32', but mini is a mini")
    one_line(cli("score", "--pairs", "a.jsonl"), "--out: is missing")
    one_line(cli("score", "x", image, "--out", "a.jsonl"), "--prefix and --cache: go with --pairs")
    one_line(cli("score", "x", "--pairs", "a.jsonl", "--out", "b.jsonl"), "use one or the other")
    one_line(cli("score", "--pairs", tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl"), "a.jsonl: cannot be read")
    assert cli("score", "x", image, "--precision", "int8").returncode == 2


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_bad_checkpoints(cli: Cli, variants: list[Path], tmp_path: Path) -> None:
    evil = tmp_path / "evil.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Evil(tmp_path / "ran")}, evil)
    one_line(cli("score", "x", variants[0], "-m", evil), f"{evil}: holds code", "was not run")
    evil.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    one_line(cli("score", "x", variants[0], "-m", evil), str(evil))
    assert not (tmp_path / "ran").exists()
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {"visual.proj": torch.zeros(3, 3)}}, other)
    one_line(
        cli("score", "x", variants[0], "-m", other, "--arch", "ViT-B-32"),
        f"{other}: is not a checkpoint of ViT-B-32: missing ",
        "visual.proj is (3, 3), expected (768, 512)",
        "--arch",
    )
    other.write_bytes(b"PK\x03\x04 nothing more")
    one_line(cli("score", "x", variants[0], "-m", other), str(other))
