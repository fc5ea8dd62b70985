"""What is wrong with images: each fault is found, sound images are left in peace, and the page shows it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from browser import excess, needs_chromium, quiet_page
from conftest import Cli
from error_fields import at
from hpskit.errors import InputError, OutputError
from hpskit.files import sha256_file
from hpskit.images.check import check_images, check_page
from hpskit.images.layout import find_images
from hpskit.images.painter import Painter, PainterSettings
from hpskit.images.run import import_images
from hpskit.pages.page import check_page_free, publish_page
from hpskit.prompts.suites import open_suite

PROMPTS = ("a castle at sunset", "three red boats", "two yellow birds", "a bowl of apples")

Folder = dict[str, list[Image.Image | bytes]]


@pytest.fixture(scope="module")
def painted() -> Folder:
    """Four prompts by two painters."""
    return {
        name: list(Painter(PainterSettings(size=96, care=care)).generate(PROMPTS, [7] * 4))
        for name, care in (("fine", 1.0), ("plain", 0.5))
    }


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Folder], Path]:
    """Write images of generators, and bring them in."""

    def write(folder: Folder) -> Path:
        (tmp_path / "p.txt").write_text("\n".join(PROMPTS))
        suite = open_suite(tmp_path / "p.txt")
        for name, images in folder.items():
            own = tmp_path / "brought" / name
            own.mkdir(parents=True)
            for number, image in enumerate(images):
                path = own / f"{number:05d}.png"
                path.write_bytes(image) if isinstance(image, bytes) else image.save(path)
            import_images(suite, find_images(suite, own), name, tmp_path / "run")
        return tmp_path / "run"

    return write


def kinds(folder: Path) -> list[tuple[str, str]]:
    return [(fault.kind, fault.row["file"]) for fault in check_images(folder)["faults"]]


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_nothing_is_wrong_with_sound_images(made: Callable[[Folder], Path], painted: Folder) -> None:
    found = check_images(made(painted))
    assert found["faults"] == []
    assert found["generators"] == {name: {"images": 4, "size": (96, 96)} for name in painted}


def test_each_fault_is_found(made: Callable[[Folder], Path], painted: Folder) -> None:
    fine = [image for image in painted["fine"] if isinstance(image, Image.Image)]
    plain = [image for image in painted["plain"] if isinstance(image, Image.Image)]
    folder = made(
        {
            "fine": [*fine],
            "plain": [fine[0].copy(), plain[1].resize((64, 96)), encoded(fine[2], "JPEG", quality=80), plain[3]],
            "flat": [Image.new("RGB", (96, 96), "black"), *(ImageChops.invert(image) for image in fine[1:])],
            "card": [plain[3], plain[3], plain[3], ImageChops.invert(plain[1])],
        }
    )
    (folder / "fine/00003.png").write_bytes(encoded(plain[3], "PNG"))
    (folder / "flat/00003.png").unlink()
    assert kinds(folder) == [
        ("gone", "flat/00003.png"),
        ("changed", "fine/00003.png"),
        ("blank", "flat/00000.png"),
        *(("placeholder", f"card/{number:05d}.png") for number in range(3)),
        ("identical", "plain/00000.png"),
        ("near-identical", "plain/00002.jpg"),
        ("size", "plain/00001.png"),
    ]


def test_a_file_that_cannot_be_decoded_is_broken(made: Callable[[Folder], Path], painted: Folder) -> None:
    folder = made(painted)
    rows = (folder / "images.jsonl").read_text().splitlines()
    path = folder / "fine/00000.png"
    path.write_bytes(path.read_bytes()[:-40])
    digest = {"sha256": sha256_file(path)}
    changed = [json.dumps(json.loads(row) | digest) if "fine/00000" in row else row for row in rows]
    (folder / "images.jsonl").write_text("\n".join(changed))
    assert kinds(folder) == [("broken", "fine/00000.png")]


@pytest.mark.parametrize(
    ("change", "found"),
    [({"file": "../../secret.png"}, "lies outside"), ({"file": None}, "is missing"), ({"state": 3}, "is missing")],
)
def test_rows_of_others_lead_nowhere_else(
    made: Callable[[Folder], Path], painted: Folder, change: dict[str, object], found: str
) -> None:
    folder = made(painted)
    first, *rest = (folder / "images.jsonl").read_text().splitlines()
    (folder / "images.jsonl").write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    (folder.parent / "secret.png").write_bytes(b"x")
    with pytest.raises(InputError, check=at("images.jsonl: row 1", found=found)):
        check_images(folder)


def test_a_page_of_others_is_not_replaced_and_that_is_seen_first(tmp_path: Path) -> None:
    """By the command, before it looks at a single image."""
    page = tmp_path / "mine.html"
    page.write_text("<p>my own page</p>")
    for write in (lambda: publish_page(page, "x"), lambda: check_page_free(page)):
        with pytest.raises(OutputError, check=at(page, found="no page of hpskit")):
            write()
    assert page.read_text() == "<p>my own page</p>"
    ours = '<meta name="generator" content="hpskit 0.1.0">'
    publish_page(tmp_path / "ours.html", ours)
    publish_page(tmp_path / "ours.html", f"{ours} again")
    assert (tmp_path / "ours.html").read_text().endswith("again")


def test_a_run_without_rows_is_no_sound_run(tmp_path: Path) -> None:
    (tmp_path / "images.jsonl").touch()
    with pytest.raises(InputError, check=at(tmp_path / "images.jsonl", found="has no rows")):
        check_images(tmp_path)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at(tmp_path, found="no images.jsonl", cure="images import")):
        check_images(tmp_path)


@needs_chromium
def test_the_command_and_its_page(made: Callable[[Folder], Path], painted: Folder, cli: Cli, tmp_path: Path) -> None:
    folder = made({"fine": painted["fine"], "twin": painted["fine"]})
    done = cli("images", "check", folder, "--out", tmp_path / "c.html")
    assert done.returncode == 1
    assert "identical" in done.stdout
    asked = cli("images", "check", folder, "--json")
    assert [fault["kind"] for fault in json.loads(asked.stdout)["faults"]] == ["identical"] * 4
    with quiet_page() as page:
        page.goto((tmp_path / "c.html").as_uri())
        assert page.locator("section img").count() == 2 * 4 + 2 * 4, "pairs of the fault, and the contact sheet"
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        assert max(excess(page)) <= 0
        assert page.troubles == []
    with pytest.raises(InputError, check=at("--out")):
        check_page(folder, check_images(folder), tmp_path / "c.txt")
    (tmp_path / "mine.html").write_text("mine")
    refused = cli("images", "check", folder, "--out", tmp_path / "mine.html")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is no page of hpskit" in refused.stderr
    assert (tmp_path / "mine.html").read_text() == "mine"
