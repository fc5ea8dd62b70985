"""Whatever a command writes, it replaces no file that it has not made itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import Cli

RUN = "benchmark run --suite suite.jsonl --images renders/{0} --name {0} --scorer random --out {0}.json"
TRAIN = "--recipe tiny --data judged/train.json --val judged/held-out.json --device cpu --set steps=2"
RENDERS = "ours=renders/ours base=renders/base"


@pytest.fixture(scope="module")
def place(cli: Cli, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("others") / "place"))
    for name in ("ours", "base"):
        assert cli(*RUN.format(name).split(), cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("score --pairs items.jsonl --out out/s.jsonl", "s.jsonl s.jsonl.manifest.json s.jsonl.partial"),
        ("agreement --data HPDv2/test.json --out out", "manifest.json result.json report.html"),
        (
            "evaluate --data HPDv2/test.json -s random --out out",
            "manifest.json result.json groups.jsonl report.html scores.ledger scores.ledger-wal",
        ),
        (
            "compare renders/base renders/ours --prompts suite.jsonl -s random --out out",
            "compare.json compare.html contact.jpg scores.ledger",
        ),
        ("benchmark prompts --suite suite.jsonl --out out", "prompts.jsonl"),
        (RUN.format("ours").replace("ours.json", "out/r.json"), "r.json r.json.partial"),
        (
            "benchmark leaderboard ours.json base.json --out out",
            "leaderboard.json leaderboard.html leaderboard.md",
        ),
        ("study prompts ours.json base.json --out out", "prompts.json prompts.html prompts.svg"),
        (f"study chrominance {RENDERS} --out out", "chrominance.json chrominance.html chrominance.svg"),
        ("study resolution --data HPDv2/ --sizes 48,96 --details none --out out", "resolution.json resolution.svg"),
        (f"ablate {TRAIN} --grid lr=1e-5,1e-3 --out out", "ablation.json ablation.html ablation.md"),
        (f"train {TRAIN} --out out", "log.jsonl config.json notes"),
        ("data convert HPDv2/ --to jsonl --out out", "rankings.jsonl notes"),
        ("data convert HPDv2/ --to parquet --out out/a.parquet", "a.parquet"),
        ("data split HPDv2/ --out out", "train.parquet"),
        ("models fetch mini --to out", "mini.safetensors"),
    ],
)
def test_they_are_refused_and_left_alone(command: str, names: str, cli: Cli, place: Path) -> None:
    out = place / "out"
    for name in names.split():
        for content in (b"mine", json.dumps({"format": "of another program"}).encode()):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            (out / name).write_bytes(content)
            done = cli(*command.split(), cwd=place)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), (name, done)
            assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {name}, name
            assert (out / name).read_bytes() == content
