"""Files in, files out: whole, in order, and whatever is killed continues."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import TINY, Cli
from error_fields import at
from forked_process import ForkedProcess
from hpskit.errors import InputError, OutputError
from hpskit.pixels import Encoded
from hpskit.scoring import outputs
from hpskit.scoring.files import ScoreFile, Summary, run
from hpskit.scoring.scorer import PreferenceScorer, load_scorer


@pytest.fixture(scope="module")
def scorer(tiny_checkpoint: Path) -> PreferenceScorer:
    return load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu", batch_size=2)


@pytest.fixture
def items(tmp_path: Path, photographs: list[Image.Image]) -> Path:
    """Seven rows; images beside the file."""
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(7):
        name = f"images/{number}.png"
        photographs[number % 2].crop((number * 20, 0, 300 + number * 20, 200)).save(tmp_path / name)
        rows.append({"image": name, "prompt": f"prompt {number // 2} ü", "id": number, "tags": ["a"]})
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_come_out_in_order_with_their_identity(items: Path, tmp_path: Path, scorer: PreferenceScorer) -> None:
    out = tmp_path / "scores.jsonl"
    steps: list[tuple[str, int, int]] = []
    summary = run(ScoreFile(items=items, out=out), lambda: scorer, lambda *step: steps.append(step))
    assert (summary.rows, summary.skipped, summary.resumed) == (7, 0, 0)
    assert steps == [("scoring", done, 7) for done in (2, 4, 6, 7)]
    rows = lines(out)
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["id"] for row in rows] == [*range(7)]
    assert rows[0]["prompt"] == "prompt 0 ü"
    assert rows[0]["tags"] == ["a"]
    assert {row["scorer"] for row in rows} == {scorer.info.identity}
    images = [tmp_path / row["image"] for row in rows]
    expected = scorer.score(images, [row["prompt"] for row in rows]).tolist()
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-4)
    manifest = json.loads((tmp_path / "scores.jsonl.manifest.json").read_text())
    assert manifest["scorer"]["weight_hash"] == scorer.info.weight_hash
    assert not (tmp_path / "scores.jsonl.partial").exists()


@pytest.fixture
def config(items: Path, tmp_path: Path) -> ScoreFile:
    return ScoreFile(items=items, out=tmp_path / "scores.jsonl")


def stop_at(row: int, config: ScoreFile, scorer: PreferenceScorer) -> Callable[[], object]:
    """Run until an image turns out to be broken; give what mends it."""
    bad, kept = (config.items.parent / name for name in (f"images/{row - 1}.png", "kept.png"))
    bad.rename(kept)
    bad.write_bytes(b"not an image")
    where = at(f"{config.items}: row {row}: {bad}", found="not an image", cure="are kept")
    with pytest.raises(InputError, check=where):
        run(config, lambda: scorer)
    assert not config.out.exists()
    return lambda: kept.replace(bad)


def test_a_stopped_run_continues_and_a_finished_one_stays(config: ScoreFile, scorer: PreferenceScorer) -> None:
    mend = stop_at(6, config, scorer)
    mend()
    summary = run(config, lambda: scorer)
    assert (summary.rows, summary.resumed) == (7, 5)
    assert [row["row"] for row in lines(config.out)] == [*range(1, 8)]
    assert not config.partial.exists()
    before = config.out.stat().st_mtime_ns
    summary = run(config, lambda: scorer)
    assert (summary.rows, summary.resumed) == (7, 7)
    assert config.out.stat().st_mtime_ns == before


def test_a_stopped_run_may_go_on_by_skipping(config: ScoreFile, scorer: PreferenceScorer) -> None:
    """Hours of scores are not thrown away because of one broken image; and what was skipped is tried again."""
    stop_at(6, config, scorer)
    summary = run(replace(config, on_error="skip"), lambda: scorer)
    assert (summary.rows, summary.skipped, summary.resumed) == (7, 1, 5)
    with pytest.raises(OutputError, check=at(config.out, found="1 rows")):
        run(config, lambda: scorer)


def test_an_image_that_was_overwritten_is_scored_again(config: ScoreFile, scorer: PreferenceScorer) -> None:
    mend, images = stop_at(7, config, scorer), config.items.parent / "images"
    (images / "2.png").replace(images / "0.png")
    (images / "2.png").write_bytes((images / "1.png").read_bytes())
    mend()
    assert run(config, lambda: scorer).resumed == 4
    rows = lines(config.out)
    expected = scorer.score([config.items.parent / row["image"] for row in rows], [row["prompt"] for row in rows])
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-4)
    (images / "1.png").write_bytes((images / "0.png").read_bytes())
    with pytest.raises(OutputError, check=at(config.out, found="have changed")):
        run(config, lambda: scorer)


def test_problems_are_found_before_any_scoring(config: ScoreFile) -> None:
    rows = lines(config.items)
    rows[1]["prompt"] = " "
    del rows[2]["image"]
    rows[4]["image"] = "images/nope.png"
    rows[5]["prompt"] = 3
    config.items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, check=at(config.items, found="4 of 7 rows")) as caught:
        run(config, lambda: pytest.fail("the model was loaded although rows are bad"))
    assert all(f"row {number}" in caught.value.found for number in (2, 3, 5, 6))
    assert not config.out.exists()
    assert not config.partial.exists()


def test_skipped_rows_say_why(items: Path, tmp_path: Path, scorer: PreferenceScorer) -> None:
    (tmp_path / "images/0.png").unlink()
    (tmp_path / "images/3.png").write_bytes(b"not an image")
    data = (tmp_path / "images/6.png").read_bytes()
    (tmp_path / "images/6.png").write_bytes(data[: len(data) // 2])
    config = ScoreFile(items=items, out=tmp_path / "scores.jsonl", on_error="skip")
    summary = run(config, lambda: scorer)
    assert (summary.rows, summary.skipped) == (7, 3)
    rows = {row["row"]: row for row in lines(config.out)}
    assert [number for number, row in rows.items() if row["score"] is None] == [1, 4, 7]
    assert "No such file" in rows[1]["error"]
    assert "is not an image" in rows[4]["error"]
    assert "cannot be decoded" in rows[7]["error"]
    assert "error" not in rows[2]
    assert [(rows[n]["image"], rows[n]["id"]) for n in (1, 4)] == [("images/0.png", 0), ("images/3.png", 3)]
    assert json.loads(config.manifest.read_text())["skipped"] == 3
    again = run(config, lambda: scorer)
    assert (again.rows, again.skipped, again.resumed) == (7, 3, 4)


def test_an_image_that_cannot_be_read_is_skipped_twice(
    items: Path, tmp_path: Path, scorer: PreferenceScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and so is found out when it is read."""
    read, bad = Path.read_bytes, tmp_path / "images/3.png"

    def broken_disk(path: Path) -> bytes:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken_disk)
    config = ScoreFile(items=items, out=tmp_path / "scores.jsonl", on_error="skip")
    for resumed in (0, 6):
        assert run(config, lambda: scorer) == Summary(rows=7, skipped=1, resumed=resumed)
    monkeypatch.undo()
    with pytest.raises(OutputError, check=at(config.out, found="images that have changed")):
        run(config, lambda: scorer)


def test_a_part_may_have_nothing_that_can_be_scored(items: Path, tmp_path: Path, scorer: PreferenceScorer) -> None:
    (tmp_path / "images/0.png").unlink()
    config = ScoreFile(items=items, out=tmp_path / "scores.jsonl", on_error="skip", part="1/7")
    assert run(config, lambda: scorer) == Summary(rows=1, skipped=1, resumed=0)


@pytest.mark.parametrize("step", ["checked", "scored", "written"])
@pytest.mark.parametrize("rows", [7, 3])
def test_input_that_changes_while_it_is_read(
    step: str, rows: int, config: ScoreFile, scorer: PreferenceScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published: the rows that are written must be those that were scored."""

    def change() -> None:
        changed = [{**row, "prompt": "another"} for row in reversed(lines(config.items))]
        changed[-1].pop("image")
        config.items.write_text("".join(json.dumps(row) + "\n" for row in changed[:rows]))

    def load() -> PreferenceScorer:
        if step == "checked":
            change()
        return scorer

    def ending(*arguments: Any) -> Iterator[bytes]:
        parts = written(*arguments)
        if step == "written":
            yield next(parts)
            change()
        yield from parts

    def progress(what: str, done: int, total: int) -> None:
        if (what, done, step) == ("scoring", total, "scored"):
            change()

    written = outputs.written
    monkeypatch.setattr(outputs, "written", ending)
    with pytest.raises(OutputError, check=at(config.items, found="has changed while it was read")):
        run(config, load, progress)
    assert not config.out.exists()


def test_rows_of_several_files_are_named_in_their_own(items: Path, tmp_path: Path, scorer: PreferenceScorer) -> None:
    (tmp_path / "images/6.png").write_bytes(b"not an image")
    rows = items.read_text().splitlines(keepends=True)
    for number in range(3):
        (tmp_path / f"part-{number}.jsonl").write_text("".join(rows[2 * number : 2 * number + 2 + number // 2]))
    config = ScoreFile(items=tmp_path / "part-*.jsonl", out=tmp_path / "scores.jsonl")
    with pytest.raises(InputError, check=at(tmp_path / "part-2.jsonl: row 3", found="not an image")):
        run(config, lambda: scorer)


def test_a_file_of_which_nothing_can_be_scored_is_an_error(config: ScoreFile) -> None:
    config.items.write_text('{"image": "a.png", "prompt": "x"}\n' * 9)
    with pytest.raises(InputError, check=at(config.items, found="9 of 9 rows", cure="mend the file")):
        run(replace(config, on_error="skip"), lambda: pytest.fail("loaded"))


@pytest.mark.parametrize("removed", [True, False])
def test_images_that_change_while_they_are_read(removed: bool, config: ScoreFile, scorer: PreferenceScorer) -> None:
    """A score is that of the bytes that were read, before or after; the next run sees what has changed since."""
    rows = [{"image": f"images/{n % 7}.png", "prompt": f"prompt {n}", "n": n % 7} for n in range(60)]
    config.items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = [config.items.parent / f"images/{n}.png" for n in range(7)]
    before = [path.read_bytes() for path in images]

    def change(_what: str, done: int, _total: int) -> None:
        for number, path in enumerate(images if done == 20 else ()):
            new = path.with_suffix(".new")
            new.write_bytes(before[number - 1])
            new.replace(path)
            if removed:
                path.unlink()

    run(replace(config, on_error="skip"), lambda: scorer, change)
    versions = [Encoded(data, "") for data in before]
    found = lines(config.out)
    scored = [row for row in found if row["score"] is not None]
    assert all("cannot be opened" in row["error"] for row in found if row["score"] is None)
    assert (len(scored) < 60) == removed
    known = [scorer.score([versions[row["n"]], versions[row["n"] - 1]], row["prompt"]).tolist() for row in scored]
    for row, values in zip(scored, known, strict=True):
        assert row["score"] in [pytest.approx(value, abs=1e-4) for value in values]
    with pytest.raises((InputError, OutputError)):
        run(config, lambda: scorer)


@pytest.mark.parametrize("field", ["skipped", "rows", "run", "files", "images_sha256", "format"])
def test_a_damaged_record_is_refused_or_made_again(field: str, config: ScoreFile, scorer: PreferenceScorer) -> None:
    run(config, lambda: scorer)
    whole, record = lines(config.out), json.loads(config.manifest.read_text())
    for wrong in (None, {}, -1, [[]]):
        config.manifest.write_text(json.dumps({**record, field: wrong}))
        with contextlib.suppress(OutputError):
            assert run(config, lambda: scorer).rows == 7
        assert lines(config.out) == whole
    config.manifest.write_text(json.dumps({name: value for name, value in record.items() if name != field}))
    with pytest.raises(OutputError, check=at(config.manifest)):
        run(config, lambda: scorer)


def test_different_scorers_are_never_mixed(config: ScoreFile, scorer: PreferenceScorer, tiny_checkpoint: Path) -> None:
    other = load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", antialias=False)
    run(config, lambda: scorer)
    with pytest.raises(OutputError, check=at(config.manifest, found="bicubic-antialias", expected="no_antialias")):
        run(config, lambda: other)
    config.manifest.unlink()
    with pytest.raises(OutputError, check=at(config.out, found="not made by this command")):
        run(config, lambda: scorer)
    config.out.rename(config.partial)
    with pytest.raises(OutputError, check=at(config.partial, found="is no ledger")):
        run(config, lambda: scorer)


def test_changed_input_or_output_is_refused(config: ScoreFile, scorer: PreferenceScorer) -> None:
    run(config, lambda: scorer)
    with config.out.open("a") as handle:
        handle.write("{}\n")
    with pytest.raises(OutputError, check=at(config.out, found="has changed")):
        run(config, lambda: scorer)
    config.items.write_text(config.items.read_text() * 2)
    with pytest.raises(OutputError, check=at(config.manifest, found="items_sha256")):
        run(config, lambda: scorer)


@pytest.mark.parametrize(
    ("row", "column", "found"),
    [
        ({"image": "images/0.png", "prompt": None}, "'prompt'", "is None, expected a text"),
        ({"image": "images", "prompt": "x"}, "images", "is a directory"),
        ({"image": "", "prompt": "x"}, "'image'", "is empty"),
        ({"image": {"bytes": "x" * 10**6}, "prompt": "x"}, "'image'", "xx…, expected a path"),
        ({"image": "images/0.png", "prompt": "x \ud83d y"}, "'prompt'", "cannot be written as JSON"),
        ({"image": "images/0.png", "prompt": "x", "note": "\ud83d"}, "'note'", "cannot be written as JSON"),
    ],
)
def test_bad_rows(tmp_path: Path, items: Path, row: dict[str, Any], column: str, found: str) -> None:
    items.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, check=at(items, found="row 1: ")) as caught:
        run(ScoreFile(items=items, out=tmp_path / "scores.jsonl"), lambda: pytest.fail("loaded"))
    assert column in caught.value.found
    assert found in caught.value.found


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at("--out", expected=".jsonl, .csv, .parquet")):
        ScoreFile(items=tmp_path / "a.jsonl", out=tmp_path / "b.txt")
    for part in ("0/2", "3/2", "1/0", "1", "-1/2", "1/2/3", "1.0/2", "٣/٤"):
        with pytest.raises(InputError, check=at("--part", expected="I from 1 to N")):
            ScoreFile(items=tmp_path / "a.jsonl", out=tmp_path / "b.csv", part=part)
    for name in ("a.jsonl", "*.jsonl", "[a-c].json*", "?{0..3}.jsonl"):
        with pytest.raises(InputError, check=at("--out", found=".json")):
            ScoreFile(items=tmp_path / name, out=tmp_path / ("a1.jsonl" if "{" in name else "a.jsonl"))
    ScoreFile(items=tmp_path / "*.jsonl", out=tmp_path / "scores/a.jsonl")
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(InputError, check=at(tmp_path / "a.jsonl", found="no rows")):
        run(ScoreFile(items=tmp_path / "a.jsonl", out=tmp_path / "b.jsonl"), lambda: pytest.fail("loaded"))


def test_a_full_disk_keeps_the_rows_so_far(cli: Cli, tmp_path: Path, photographs: list[Image.Image]) -> None:
    photographs[0].save(tmp_path / "a.png")
    items = tmp_path / "items.jsonl"
    items.write_text("".join(f'{{"image": "a.png", "prompt": "x {number}"}}\n' for number in range(40)))
    out = tmp_path / "scores.jsonl"
    code = (
        "import resource\nfrom pathlib import Path\nimport hpskit\n"
        "from hpskit.scoring.files import ScoreFile, run\n"
        "scorer = hpskit.load_scorer('mini', batch_size=1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        f"run(ScoreFile(items=Path({str(items)!r}), out=Path({str(out)!r})), lambda: scorer)"
    )
    assert "make room and run the same command again" in ForkedProcess(code).finish().stderr
    summary = json.loads(cli("score", "--pairs", items, "--out", out, "--batch-size", "1", "--json").stdout)
    assert summary["rows"] == 40
    assert 0 < summary["resumed"] < 40
