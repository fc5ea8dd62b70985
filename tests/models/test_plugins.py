"""Scorers of other packages: the example of docs/baselines.md, installed into a folder as pip would do it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from conftest import Cli
from hpskit import load_scorer
from hpskit.errors import InputError, ModelError, UnknownModelError
from hpskit.models.plugins import plugins

PAGE = Path(__file__).parents[2] / "docs/baselines.md"


def example() -> str:
    """The module that the page shows."""
    (block,) = re.findall(r"^```python\n(# brightness\.py\n.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


def install(folder: Path, package: str, points: dict[str, str], code: str) -> Path:
    (folder / f"{package}.py").write_text(code)
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (information / "entry_points.txt").write_text(f"[hpskit.scorers]\n{lines}")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, of this process and of those it starts."""
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", str(path))
    yield path
    for name in {file.stem for file in path.glob("*.py")} & sys.modules.keys():
        del sys.modules[name]


def test_the_example_of_the_page(folder: Path, cli: Cli, tmp_path: Path) -> None:
    install(folder, "brightness", {"brightness": "brightness:load"}, example())
    for name, grey in (("dark", 40), ("light", 200)):
        Image.new("RGB", (30, 20), (grey,) * 3).save(tmp_path / f"{name}.png")
    images = [tmp_path / "dark.png", tmp_path / "light.png"]
    scorer = load_scorer("brightness")
    assert scorer.score(images, "anything").tolist() == pytest.approx([40 / 255, 200 / 255], abs=1e-6)
    assert scorer.info.name == "brightness"
    done = cli("score", "--model", "brightness", "--json", "a lamp", *images)
    assert done.returncode == 0, done.stderr
    assert [Path(line["image"]).stem for line in json.loads(done.stdout)["ranking"]] == ["light", "dark"]
    listed = cli("models", "list", "--json")
    (row,) = [row for row in json.loads(listed.stdout) if row["name"] == "brightness"]
    assert row["state"] == "installed"
    assert row["source"] == "brightness:load"
    assert "brightness" in cli("models", "list").stdout


def test_nothing_is_imported_before_it_is_asked_for(folder: Path) -> None:
    install(folder, "loud_a", {"loud": "loud_a:load"}, "raise RuntimeError('imported')")
    assert set(plugins()) == {"loud"}
    load_scorer("random")
    with pytest.raises(UnknownModelError):
        load_scorer("quiet")
    with pytest.raises(RuntimeError, match="imported"):
        load_scorer("loud")


@pytest.mark.parametrize(
    ("point", "code", "message"),
    [
        ("missing_b:load", "", r"missing_b:load of package_b cannot be imported \(No module named 'missing_b'\)"),
        ("package_b:load", "", "package_b:load of package_b cannot be imported .*has no attribute 'load'"),
        ("package_b:load", "def load(*, precision, device): return 3", "returned a int, expected"),
        (
            "package_b:load",
            "{example}    return object(), made[1]\n",
            "returned a network without preprocessing, device",
        ),
    ],
)
def test_what_does_not_fit_is_named(point: str, code: str, message: str, folder: Path) -> None:
    if "{example}" in code:
        made = "\n\ndef load_other(*, precision, device):\n    made = load(precision=precision, device=device)\n"
        code, point = code.format(example=example() + made), "package_b:load_other"
    install(folder, "package_b", {"mine": point}, code)
    with pytest.raises(ModelError, match=message):
        load_scorer("mine")


def test_two_packages_with_one_name(folder: Path) -> None:
    for package in ("package_c", "package_d"):
        install(folder, package, {"mine": f"{package}:load"}, "")
    with pytest.raises(ModelError, match=r"mine: is offered by package_[cd] and by package_[cd]; uninstall one"):
        load_scorer("mine")


def test_names_of_hpskit_come_first(folder: Path) -> None:
    install(folder, "package_e", {"random": "package_e:load", "mine": "package_e:load"}, "")
    assert load_scorer("random").info.licence == "Apache-2.0"
    with pytest.raises(InputError, match="arch and antialias: are not for mine"):
        load_scorer("mine", arch="ViT-H-14")
