"""Runs of generators: every image is there whole or has its reason, whatever ends the run; none is made twice."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Cli
from error_fields import at
from forked_process import ForkedProcess
from hpskit.errors import ImageError, InputError, OutputError, RecordError
from hpskit.files import sha256_file
from hpskit.images.layout import find_images
from hpskit.images.plan import KINDS, load_generator, read_generators, seed_of
from hpskit.images.run import Folder, GenerateRun, Made, generate, import_images
from hpskit.prompts.suites import Suite, SuitePrompt, open_suite
from hpskit.rows import read_rows

PAINTER = '[[generator]]\nkind = "painter"\nname = "fine"\nsize = 64\n'
WORDS = ("a castle", "three red boats", "a lake at dawn", "two yellow birds", "a night of stars", "a bowl of apples")

Run = Callable[..., Made]


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    rows = [{"category": style, "prompt": f"{words} {style}"} for style in ("anime", "photo") for words in WORDS]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_suite(path)


@pytest.fixture
def run(tmp_path: Path, suite: Suite) -> Run:
    def start(toml: str, **settings: Any) -> Made:
        path = tmp_path / "gen.toml"
        path.write_text(toml)
        return generate(
            GenerateRun(**{"suite": suite, "generators": read_generators(path), "out": tmp_path / "out", **settings})
        )

    return start


def command(script: str, name: str = "sh", more: str = "") -> str:
    """A generator that is a shell script; `$1` is the prompt, `$2` the seed, `$3` the file."""
    words = json.dumps(["sh", "-c", script, "sh", "{prompt}", "{seed}", "{out}"])
    return f'[[generator]]\nkind = "command"\nname = "{name}"\ncommand = {words}\n{more}\n'


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(out / "images.jsonl")]


def test_what_comes_out_is_what_a_benchmark_reads(run: Run, suite: Suite, tmp_path: Path) -> None:
    made = run(PAINTER + PAINTER.replace("fine", "poor") + "care = 0.1\nimages = 2")
    assert made.states == {"fine": {"done": 12}, "poor": {"done": 24}}
    assert not made.missing
    fine, poor = (find_images(suite, tmp_path / "out" / name) for name in ("fine", "poor"))
    assert [len(paths) for paths in fine.images] == [1] * 12
    assert [len(paths) for paths in poor.images] == [2] * 12
    rows = rows_of(tmp_path / "out")
    assert len({row["id"] for row in rows}) == 36
    for row in rows:
        path = tmp_path / "out" / row["file"]
        assert row["sha256"] == sha256_file(path)
        assert row["size"] == [64, 64]
        (painted,) = load_generator(read_generators(tmp_path / "gen.toml")[row["generator"] == "poor"]).generate(
            [row["prompt"]], [row["seed"]]
        )
        assert np.array_equal(np.asarray(painted), np.asarray(Image.open(path)))
    assert json.loads((tmp_path / "out/fine.json").read_text())["name"] == "painter"


def test_two_generators_begin_from_the_same_seeds_and_samples_do_not() -> None:
    prompt, other = (SuitePrompt(category="photo", number=n, prompt="x") for n in (0, 1))
    seeds = [seed_of(0, prompt, 0), seed_of(0, prompt, 1), seed_of(0, other, 0), seed_of(1, prompt, 0)]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_same_run_again_makes_nothing_and_a_damaged_image_again(run: Run, tmp_path: Path) -> None:
    run(PAINTER)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/fine").rglob("*.png")}
    first, *_ = files
    before = first.read_bytes()
    first.write_bytes(before[:100])
    run(PAINTER)
    assert first.read_bytes() == before
    assert [path for path, when in files.items() if path.stat().st_mtime_ns != when] == [first]


def test_a_failed_image_keeps_its_reason_and_is_tried_again_only_when_asked(run: Run, tmp_path: Path) -> None:
    failing = command('case $1 in "a castle"*) echo no castles >&2; exit 3;; esac; cp base.png "$3"'.replace(
        "base.png", str(tmp_path / "base.png")
    ))  # fmt: skip
    Image.new("RGB", (8, 8), "red").save(tmp_path / "base.png")
    made = run(failing)
    assert made.states == {"sh": {"failed: exit": 2, "done": 10}}
    assert made.missing == 2
    (row, _) = (row for row in rows_of(tmp_path / "out") if row["state"] == "failed")
    assert (row["said"], row["tries"]) == ("status 3; no castles", 1)
    run(failing)
    assert {row["tries"] for row in rows_of(tmp_path / "out")} == {1}
    with pytest.raises(InputError, check=at("--retry-failed", found="'timeout'", expected="all, exit")):
        run(failing, retry_failed="timeout")
    assert {row["tries"] for row in rows_of(tmp_path / "out")} == {1}
    run(failing, retry_failed="exit")
    assert Counter(row["tries"] for row in rows_of(tmp_path / "out")) == {1: 10, 2: 2}


@pytest.mark.parametrize(
    ("script", "more", "state", "said"),
    [
        ("true", "", "failed: no-image", "nothing at {out}"),
        ('echo text > "$3"', "", "failed: no-image", "is not an image"),
        ('echo late; sleep 60 & sleep 60', "timeout = 0.2", "failed: timeout", "after 0.2 s; late"),
        ("kill -9 $$", "", "failed: exit", "status -9"),
    ],
)  # fmt: skip
def test_programs_that_fail(run: Run, tmp_path: Path, script: str, more: str, state: str, said: str) -> None:
    prompts = tmp_path / "one.txt"
    prompts.write_text("a castle\n")
    began = time.monotonic()
    made = run(command(script, more=more), suite=open_suite(prompts))
    assert made.states == {"sh": {state: 1}}
    assert said in rows_of(tmp_path / "out")[0]["said"]
    assert time.monotonic() - began < 30


def test_a_program_gets_the_prompt_as_it_is(run: Run, tmp_path: Path) -> None:
    """What looks like a place of the command, a quotation mark or an option is but text."""
    prompt = "{seed} $(touch pwned) \"'; {out} --help {prompt}"
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": prompt}) + "\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "base.png")
    script = f'printf %s "$1" > {tmp_path}/said; printf %s "$2" > {tmp_path}/seed; cp {tmp_path}/base.png "$3"'
    run(command(script), suite=open_suite(tmp_path / "one.jsonl"))
    assert (tmp_path / "said").read_text() == prompt
    assert int((tmp_path / "seed").read_text()) == rows_of(tmp_path / "out")[0]["seed"]


def test_bytes_of_a_program_are_kept_as_they_are(run: Run, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 40).convert("RGB").save(buffer, "WEBP")
    (tmp_path / "base.webp").write_bytes(buffer.getvalue())
    run(command(f'cp {tmp_path}/base.webp "$3"'))
    assert (tmp_path / "out/sh/photo/00003.webp").read_bytes() == buffer.getvalue()


@pytest.mark.parametrize(
    ("toml", "place", "found"),
    [
        ('[[generator]]\nkind = "paintre"\nname = "x"', "generator 1: kind", "'paintre'"),
        ('[[generator]]\nkind = "painter"\nname = "x"\nsizes = 3', "generator 1: sizes", ""),
        ('[[generator]]\nkind = "painter"\nname = "../x"', "generator 1: name", "../x"),
        ('[[generator]]\nkind = "painter"\nname = "images"', "name", "'images'"),
        ('[[generator]]\nkind = "painter"\nname = "images.jsonl"', "name", "'images.jsonl'"),
        (PAINTER + '[[generator]]\nkind = "painter"\nname = "Fine.JSON"', "name", "'Fine.JSON'"),
        ('[[generator]]\nkind = "painter"\nname = "x."', "generator 1: name", "'x.'"),
        (PAINTER + PAINTER, "generator 2: name", "again"),
        ("[generator]\nkind = 3", "gen.toml", "no [[generator]]"),
        ("seed = 3\n" + PAINTER, "gen.toml", "'seed'"),
        ("[[", "gen.toml", "is not TOML"),
        ('[[generator]]\nkind = "command"\nname = "x"\ncommand = ["sh", "{prompt}"]', "command", "sh {prompt}"),
        (
            '[[generator]]\nkind = "command"\nname = "x"\ncommand = ["no-such", "{prompt}", "{out}"]',
            "command",
            "no-such",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_named(run: Run, tmp_path: Path, toml: str, place: str, found: str) -> None:
    with pytest.raises(InputError, check=at(place, found=found)):
        run(toml)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_other_settings_or_prompts_are_refused(run: Run, suite: Suite, tmp_path: Path) -> None:
    run(PAINTER)
    before = (tmp_path / "out/images.jsonl").read_bytes()
    with pytest.raises(OutputError, check=at(tmp_path / "out/fine", found="care", cure="another name")):
        run(PAINTER + "care = 0.5")
    with pytest.raises(OutputError, check=at(tmp_path / "out/fine", found="seed")):
        run(PAINTER, seed=1)
    fewer = Suite(name="x", source="x", prompts=suite.prompts[:3])
    with pytest.raises(OutputError, check=at(tmp_path / "out/.images.ledger", found="suite")):
        run(PAINTER, suite=fewer)
    assert (tmp_path / "out/images.jsonl").read_bytes() == before


def test_settings_of_which_nothing_came_may_be_corrected(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "base.png")
    assert run(command("echo one; echo two; exit 3")).said == {("sh", "failed: exit"): "status 3; two"}
    assert run(command(f'cp {tmp_path}/base.png "$3"')).states == {"sh": {"done": 12}}
    with pytest.raises(OutputError, check=at(tmp_path / "out/sh", found="settings")):
        run(command("exit 3"))


def test_a_generator_of_which_nothing_came_is_forgotten(run: Run, tmp_path: Path) -> None:
    run(PAINTER + command("exit 3"))
    run(PAINTER)
    assert {row["generator"] for row in rows_of(tmp_path / "out")} == {"fine"}


def test_prompts_that_were_not_kept_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "x", "state": "kept"}\n{"prompt": "y", "state": "review"}\n')
    with pytest.raises(RecordError, check=at("p.jsonl: row 2: state", found="'review'", cure="prompts select")):
        open_suite(tmp_path / "p.jsonl")


def test_what_others_put_there_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "out/fine/notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(OutputError, check=at(tmp_path / "out/fine", found="not made by this command")):
        run(PAINTER)
    shutil.rmtree(tmp_path / "out")
    run(PAINTER, suite=Suite(name="x", source="x", prompts=()))
    ours = tmp_path / "out/fine/anime/00000.png"
    assert not ours.exists()


def test_generators_can_be_added_and_rows_of_others_stay(run: Run, suite: Suite, tmp_path: Path) -> None:
    run(PAINTER)
    run(PAINTER.replace("fine", "second"))
    brought = import_images(suite, find_images(suite, tmp_path / "out/fine"), "third", tmp_path / "out")
    assert brought.states == {"third": {"done": 12}}
    assert Counter(row["generator"] for row in rows_of(tmp_path / "out")) == {"fine": 12, "second": 12, "third": 12}
    for row in rows_of(tmp_path / "out"):
        assert row["file"].startswith(row["generator"] + "/")
        path = tmp_path / "out" / row["file"]
        assert path.read_bytes() == (tmp_path / "out/fine" / path.relative_to(path.parents[1])).read_bytes()


def test_generators_that_differ_in_name_only_have_their_own_images(run: Run, suite: Suite, tmp_path: Path) -> None:
    """One model under two names, to see how far it differs from itself; or the images of two models, brought in."""
    made = run(PAINTER + PAINTER.replace("fine", "again"))
    assert made.states == {"fine": {"done": 12}, "again": {"done": 12}}
    run(PAINTER.replace("fine", "other") + "care = 0.1")
    for name, source in (("one", "fine"), ("two", "other")):
        import_images(suite, find_images(suite, tmp_path / "out" / source), name, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert len({row["file"] for row in rows}) == len(rows) == 60
    for row in rows:
        assert row["file"].startswith(f"{row['generator']}/")
        assert sha256_file(tmp_path / "out" / row["file"]) == row["sha256"]
    assert run(PAINTER + PAINTER.replace("fine", "again")).states == made.states


def test_broken_images_are_not_brought_in(suite: Suite, tmp_path: Path) -> None:
    for number in range(12):
        style, place = ("anime", number) if number < 6 else ("photo", number - 6)
        path = tmp_path / f"mine/{style}/{place:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 40).save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, check=at(path)):
        import_images(suite, find_images(suite, tmp_path / "mine"), "mine", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_without_room_is_named_before_it_is_full(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=10**9, used=10**9, free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, check=at(tmp_path / "out", expected="more images of fine")):
        run(PAINTER)
    assert Counter(row["state"] for row in rows_of(tmp_path / "out")) == {"done": 4, "pending": 8}
    monkeypatch.undo()
    assert run(PAINTER).states == {"fine": {"done": 12}}


def test_images_under_way_are_kept_when_the_disk_is_full(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were written are not made, and paid for, again."""
    Image.new("RGB", (8, 8)).save(tmp_path / "base.png")
    script = command(f'echo "$2" >> {tmp_path}/made; cp {tmp_path}/base.png "$3"')
    write, before = Folder.keep, iter(range(3))

    def until_full(*arguments: Any) -> Any:
        if next(before, None) is None:
            raise OutputError("disk", "is full")
        return write(*arguments)

    monkeypatch.setattr(Folder, "keep", until_full)
    with pytest.raises(OutputError, check=at("disk")):
        run(script)
    assert Counter(row["state"] for row in rows_of(tmp_path / "out")) == {"done": 3, "pending": 9}
    monkeypatch.undo()
    run(script)
    assert len((tmp_path / "made").read_text().split()) == 13


def two_ways(tmp_path: Path) -> str:
    """A program that does as `tmp_path/way` says: `png` and `jpg` make an image of that kind, another word none."""
    for ending in ("png", "jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"base.{ending}")
    return command(f'cp {tmp_path}/base.$(cat {tmp_path}/way) "$3"')


@pytest.mark.parametrize(("way", "state"), [("jpg", "done"), ("none", "failed: exit")])
def test_a_damaged_image_goes_whatever_comes_in_its_place(run: Run, tmp_path: Path, way: str, state: str) -> None:
    (tmp_path / "way").write_text("png")
    toml = two_ways(tmp_path)
    run(toml)
    damaged = tmp_path / "out/sh/anime/00000.png"
    damaged.write_bytes(b"")
    (tmp_path / "way").write_text(way)
    assert run(toml).states["sh"][state] >= 1
    assert not damaged.exists()
    assert damaged.with_suffix(".jpg").exists() == (way == "jpg")


def test_what_somebody_put_in_the_place_of_a_failed_image_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "way").write_text("none")
    toml = two_ways(tmp_path)
    run(toml)
    mine = tmp_path / "out/sh/anime/00000.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert run(toml).states == {"sh": {"failed: exit": 12}}
    (tmp_path / "way").write_text("png")
    with pytest.raises(OutputError, check=at(mine, found="not made by this command")):
        run(toml, retry_failed="all")
    assert mine.read_text() == "mine"


def test_what_another_process_makes_meanwhile_is_nobody_elses(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made between the look at the ledger and the look at the files."""
    Image.new("RGB", (8, 8)).save(tmp_path / "base.png")
    toml = command(f'echo "$2" >> {tmp_path}/made; cp {tmp_path}/base.png "$3"')
    look = Folder.entries
    others = iter([lambda: run(toml)])

    def look_late(*arguments: Any) -> Any:
        found = look(*arguments)
        ledger = arguments[1]
        if other := next(others, None):
            ledger.close()
            other()
        return found

    monkeypatch.setattr(Folder, "entries", look_late)
    assert run(toml).states == {"sh": {"done": 12}}
    assert len((tmp_path / "made").read_text().split()) == 12


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x "])
def test_names_that_no_folder_can_have_are_not_brought_in(suite: Suite, run: Run, tmp_path: Path, name: str) -> None:
    run(PAINTER)
    with pytest.raises(InputError, check=at("import: name", found=repr(name))):
        import_images(suite, find_images(suite, tmp_path / "out/fine"), name, tmp_path / "out")


def test_other_images_are_not_brought_in_under_a_name_that_has_some(suite: Suite, run: Run, tmp_path: Path) -> None:
    run(PAINTER + PAINTER.replace("fine", "poor") + "care = 0.1")
    one, other = (find_images(suite, tmp_path / "out" / name) for name in ("fine", "poor"))
    import_images(suite, one, "mine", tmp_path / "out")
    gone = tmp_path / "out/mine/anime/00000.png"
    gone.unlink()
    assert import_images(suite, one, "mine", tmp_path / "out").states == {"mine": {"done": 12}}
    assert gone.exists()
    before = {path: path.read_bytes() for path in (tmp_path / "out/mine").rglob("*.png")}
    with pytest.raises(OutputError, check=at(gone, found="another image", cure="another name")):
        import_images(suite, other, "mine", tmp_path / "out")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out/mine").rglob("*.png")}


@pytest.mark.parametrize("length", [5_000_000])
def test_a_prompt_of_5_mb_is_one_error(tmp_path: Path, length: int) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "x" * length}) + "\n")
    with pytest.raises(RecordError, check=at("p.jsonl: row 1: prompt", found="5,000,000 characters")) as caught:
        open_suite(tmp_path / "p.jsonl")
    assert len(str(caught.value)) < 400


def test_two_prompts_of_one_id_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "y"}\n{"id": "a", "prompt": "z"}'
    )
    with pytest.raises(RecordError, check=at("p.jsonl: row 3: id", found="row 1")):
        open_suite(tmp_path / "p.jsonl")


def test_the_command_says_what_is_missing_by_its_status(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a castle\nno boats\n")
    (tmp_path / "gen.toml").write_text(PAINTER + command('case $1 in no*) exit 1;; esac; cp "$0" "$3"'))
    words = ["images", "generate", "--prompts", "p.txt", "--generators", "gen.toml", "--out", "out"]
    done = cli(*words, cwd=tmp_path)
    assert done.returncode == 3
    assert "missing: 2 images" in done.stderr
    (tmp_path / "gen.toml").write_text(PAINTER)
    done = cli(*words, "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"states": {"fine": {"done": 2}}, "missing": 0}


def test_a_program_ends_with_the_run_that_is_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a castle\n")
    (tmp_path / "gen.toml").write_text(command("echo $$ > pid.part; mv pid.part pid; exec sleep 60"))
    words = ["images", "generate", "--prompts", "p.txt", "--generators", "gen.toml", "--out", "out"]
    process = subprocess.Popen([sys.executable, "-m", "hpskit", *words], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "pid").exists() and time.monotonic() < until:
            time.sleep(0.05)
        program = int((tmp_path / "pid").read_text())
        process.terminate()
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)
    assert [row["state"] for row in rows_of(tmp_path / "out")] == ["pending"]
    assert not list((tmp_path / "out/.workers").iterdir())


CODE = """
import resource, signal, sys
from pathlib import Path
from hpskit.images.plan import KINDS, read_generators
from hpskit.images.run import Folder, GenerateRun, generate
from hpskit.prompts.suites import open_suite
sys.path.insert(0, ".")
KINDS["flaky"] = "flaky"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, resource.RLIM_INFINITY))
generate(GenerateRun(suite=open_suite("prompts.jsonl"), generators=read_generators(Path("gen.toml")), out=Path("out")))
"""
FLAKY = '''
import time
from PIL import Image
from hpskit.images.contract import GeneratorInfo, GeneratorSettings, Outcome

class Settings(GeneratorSettings):
    pass

class load:
    """Of twenty images one is no number, one is refused, one is late; a server is busy for a while now and then."""

    def __init__(self, settings):
        self.info = GeneratorInfo(name="flaky", version="1", package="test")

    def generate(self, prompts, seeds):
        time.sleep(0.02)
        return [self.one(seed) for seed in seeds]

    def one(self, seed):
        if seed % 20 == 3:
            return Outcome(reason="nan")
        if seed % 20 == 7:
            return Outcome(reason="moderation", said="blocked", final=True)
        if seed % 20 == 11:
            return Outcome(reason="timeout")
        if seed % 20 == 15:
            time.sleep(0.1)
        return Image.frombytes("RGB", (48, 48), bytes((seed * i * i) % 251 for i in range(48 * 48 * 3)))
'''


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_moment_every_image_is_there_or_has_its_reason(
    kills: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, or on a full disk, with images that are no numbers, refused, late; programs that fail. In the end all are
    as in a run that was left alone, byte for byte."""
    (tmp_path / "flaky.py").write_text(FLAKY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(KINDS, "flaky", "flaky")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "base.png")
    script = f'[ $(($2 % 20)) = 0 ] && exit 1; sleep 0.0$(($2 % 9)); cp {tmp_path}/base.png "$3"; echo "$2" >> "$3"'
    flaky = '[[generator]]\nkind = "flaky"\nname = "flaky"\nimages = 20\n'
    toml = PAINTER + "images = 5\n" + flaky + command(script, more="images = 5\nbatch = 3")
    alone = run(toml, out=tmp_path / "alone")
    assert {"failed: nan", "failed: timeout", "refused: moderation", "done"} == set(alone.states["flaky"])
    rng = random.Random(kills)
    for number in range(kills):
        full = number % 4 == 3
        most = str(rng.choice((3_000, 20_000)) if full else -1)
        process = ForkedProcess(CODE.replace("MOST", most), cwd=tmp_path)
        time.sleep(rng.uniform(0.3, 1.2))
        with contextlib.suppress(ProcessLookupError):  # done, or stopped by the full disk
            process.send_signal(signal.SIGKILL)
        done = process.finish()
        assert done.returncode in (0, -signal.SIGKILL) or (full and "OutputError" in done.stderr), done.stderr
    assert run(toml).states == alone.states
    for one, other in zip(rows_of(tmp_path / "alone"), rows_of(tmp_path / "out"), strict=True):
        assert {**one, "seconds": 0, "tries": 0} == {**other, "seconds": 0, "tries": 0}
        if one["state"] == "done":
            assert (tmp_path / "alone" / one["file"]).read_bytes() == (tmp_path / "out" / one["file"]).read_bytes()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_several_processes_share_a_plan(run: Run, suite: Suite, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "base.png")
    script = f'sleep 0.05; echo "$2" >> {tmp_path}/made; cp {tmp_path}/base.png "$3"'
    (tmp_path / "gen.toml").write_text(command(script, more="images = 4\nbatch = 2"))
    processes = [ForkedProcess(CODE.replace("MOST", "-1"), cwd=tmp_path) for _ in range(3)]
    for process in processes:
        done = process.finish()
        assert done.returncode == 0, done.stderr
    seeds = (tmp_path / "made").read_text().split()
    assert len(seeds) == len(set(seeds)) == 48, "each image is made once"
    assert {row["state"] for row in rows_of(tmp_path / "out")} <= {"done", "pending"}
    assert run((tmp_path / "gen.toml").read_text()).states == {"sh": {"done": 48}}
    assert len((tmp_path / "made").read_text().split()) == 48
