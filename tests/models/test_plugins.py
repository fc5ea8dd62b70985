"""Scorers of other people: the example of docs/baselines.md, named as a file, and installed as pip would do it."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import Cli
from error_fields import at
from hpskit import __version__, load_scorer
from hpskit.errors import ImageError, InputError, ModelError, UnknownModelError
from hpskit.models.plugins import plugins
from hpskit.scoring.streaming import stream
from small_inputs import write_data

PAGE = Path(__file__).parents[2] / "docs/baselines.md"

NETWORK = """
import torch
from hpskit.pixels import Preprocessing


class Redness:
    preprocessing = Preprocessing(size=64, resize="squash", mean=(0, 0, 0), std=(1, 1, 1))
    scale, log_odds_per_point = "mean of red, 0 to 1", 2.0
    reads_prompt, differentiable = False, True

    def __init__(self, device, precision):
        self.device, self.version = device, f"1 in {precision}"

    def encode_images(self, pixels):
        return pixels[:, 0].mean(dim=(1, 2))[:, None]

    def encode_prompts(self, prompts):
        return torch.empty(len(prompts), 0, device=self.device)

    def compare(self, images, prompts):
        return images[:, 0]
"""


def example() -> str:
    """The module that the page shows."""
    (block,) = re.findall(r"^```python\n(# brightness\.py\n.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


def install(folder: Path, package: str, points: dict[str, str], code: str) -> Path:
    (folder / f"{package}.py").write_text(code)
    information = folder / f"{package}-2.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (information / "entry_points.txt").write_text(f"[hpskit.scorers]\n{lines}")
    return folder


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of scorers are added to the module path of a process: not to that of other tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])


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


@pytest.fixture
def lamps(tmp_path: Path) -> list[Path]:
    """A dark image and a light one."""
    for name, grey in (("dark", 40), ("light", 200)):
        Image.new("RGB", (30, 20), (grey,) * 3).save(tmp_path / f"{name}.png")
    return [tmp_path / "dark.png", tmp_path / "light.png"]


def in_file(folder: Path, code: str, name: str = "Mine") -> str:
    """A file of Python in a folder, and the name to load it by."""
    (folder / "mine.py").write_text(code)
    return f"{folder / 'mine.py'}:{name}"


def short_hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:16]


# --- the example


def test_the_example_as_a_package(folder: Path, cli: Cli, lamps: list[Path]) -> None:
    assert len(example().rstrip().splitlines()) <= 15, "it is said to be short"
    install(folder, "brightness", {"brightness": "brightness:Brightness"}, example())
    scorer = load_scorer("brightness")
    assert scorer.score(lamps, "anything").tolist() == [40, 200]
    assert scorer.info.name == "brightness"
    assert scorer.info.version == "1.0"
    assert scorer.info.package == f"brightness 2.5 (brightness.py {short_hash(example())}), hpskit {__version__}"
    done = cli("score", "--model", "brightness", "--json", "a lamp", *lamps)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [Path(line["image"]).stem for line in document["ranking"]] == ["light", "dark"]
    assert [line["probability"] for line in document["ranking"]] == [None, None]
    assert document["scorer"]["identity"] == scorer.info.identity
    assert document["scorer"]["log_odds_per_point"] is None
    rows = json.loads(cli("models", "list", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "brightness"]
    assert (row["state"], row["source"]) == ("installed", "brightness:Brightness")


def test_the_example_as_a_file(tmp_path: Path, cli: Cli, lamps: list[Path], photographs: list[Image.Image]) -> None:
    (tmp_path / "brightness.py").write_text(example())
    name = "brightness.py:Brightness"
    done = cli("score", "--model", name, "a lamp", *(path.name for path in lamps), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"1 +light.png +200.00 *\n", done.stdout)
    assert "preferred" not in done.stdout  # nothing says what 160 grey levels are in log-odds
    assert "does not read the prompt" in done.stdout
    data = write_data(tmp_path / "data", photographs, groups=3)
    options = ("--scorer", name, "--scorer", "random", "--resamples", "100", "--json")
    done = cli("evaluate", "--data", data, "--out", tmp_path / "report", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scorers = {scorer["label"]: scorer for scorer in json.loads(done.stdout)["scorers"]}
    assert set(scorers) == {"Brightness", "random"}
    assert short_hash(example()) in (tmp_path / "report/result.json").read_text()


# --- who it is


def test_what_is_said_is_believed_and_the_rest_is_unstated(tmp_path: Path) -> None:
    code = "class Mine:\n    def score(self, images, prompts):\n        return [1.0] * len(images)\n"
    info = load_scorer(in_file(tmp_path, code)).info
    assert (info.name, info.architecture) == ("Mine", "Mine")
    assert info.package == f"mine.py {short_hash(code)}, hpskit {__version__}"
    others = (info.version, info.weight_hash, info.preprocessing, info.precision, info.scale, info.licence)
    assert set(others) == {"unstated"}
    said = {name: f"my {name}" for name in ("name", "version", "weight_hash", "preprocessing", "scale", "licence")}
    code = f"class Mine:\n    score = print\n    def __init__(self): vars(self).update({said})\n"
    info = load_scorer(in_file(tmp_path, code)).info
    assert {name: getattr(info, name) for name in said} == said


def test_an_edit_makes_another_scorer(tmp_path: Path, lamps: list[Path]) -> None:
    """Also within one process and one second, where Python would take a compiled copy for the file."""
    (tmp_path / "beside_it.py").write_text("def add(images, n): return [image.width + n for image in images]")
    code = "from beside_it import add\nclass Mine:\n    def score(self, images, _): return add(images, {})\n"
    first, second = (load_scorer(in_file(tmp_path, code.format(number))) for number in (1, 2))
    assert [scorer.score(lamps, "a lamp").tolist() for scorer in (first, second)] == [[31, 31], [32, 32]]
    assert first.info.identity != second.info.identity


def test_it_gets_the_arithmetic_and_the_device_that_it_asks_for(tmp_path: Path) -> None:
    code = (
        "class Mine:\n"
        "    def __init__(self, precision='auto', *, device, more=3): self.scale = f'{precision} {device!r} {more}'\n"
        "    def score(self, images, prompts): ...\n"
    )
    info = load_scorer(in_file(tmp_path, code), precision="bf16", device="cpu").info
    assert info.scale == "bf16 device(type='cpu') 3"
    assert info.precision == "bf16"


def test_a_network_scores_tensors_with_a_gradient(tmp_path: Path) -> None:
    scorer = load_scorer(in_file(tmp_path, NETWORK, "Redness"), precision="fp32")
    pixels = torch.rand(2, 3, 64, 64, requires_grad=True)
    scores = scorer.score(pixels, "a rose", grad=True)
    assert scores.tolist() == pytest.approx(pixels[:, 0].mean(dim=(1, 2)).tolist(), abs=1e-6)
    scores.sum().backward()
    assert pixels.grad is not None
    assert scorer.info.version == "1 in fp32"
    assert scorer.info.preprocessing.startswith("squash-64")
    assert scorer.log_odds_per_point == 2


# --- images


def test_every_kind_of_image(tmp_path: Path, lamps: list[Path]) -> None:
    scorer = load_scorer(in_file(tmp_path, example(), "Brightness"), batch_size=2)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    grey = torch.full((3, 4, 4), 51 / 255)
    assert scorer.score([clear, grey], "a lamp").tolist() == [255, 51]
    assert scorer.score(torch.stack([grey, grey]), "a lamp").tolist() == [51, 51]
    with pytest.raises(InputError, check=at("grad", found="Brightness")):
        scorer.score(torch.stack([grey]), "a lamp", grad=True)
    with pytest.raises(InputError, check=at(found="int")):
        scorer.score([3], "a lamp")  # type: ignore[list-item]
    (tmp_path / "broken.png").write_text("hello")
    outcomes = [o for batch in stream([scorer], [tmp_path / "broken.png", *lamps], ["a", "b", "c"]) for o in batch]
    assert isinstance(outcomes[0], ImageError)
    assert outcomes[1:] == [[40], [200]]


def test_no_probability_is_invented(tmp_path: Path, lamps: list[Path]) -> None:
    scorer = load_scorer(in_file(tmp_path, example(), "Brightness"))
    with pytest.raises(InputError, check=at("win_probability", found="Brightness")):
        scorer.win_probability("a lamp", *lamps)
    stated = example().replace("reads_prompt", "log_odds_per_point = 0.01\n    reads_prompt")
    known = load_scorer(in_file(tmp_path, stated, "Brightness"))
    assert known.win_probability("a lamp", *lamps) == pytest.approx(1 / (1 + 2.718281828459045**1.6))


# --- what does not fit


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("[1.0]", "1 numbers for 2 images"),
        ("None", "a NoneType that does not hold numbers"),
        ("['good', 'bad']", "a list that does not hold numbers"),
        ("torch.rand(2, 3)", "a Tensor that does not hold numbers"),
        ("[1.0, float('nan')]", "nan"),
        ("[1.0, 10**400]", "a list that does not hold numbers"),
    ],
)
def test_what_is_not_a_score_is_named(returned: str, found: str, tmp_path: Path, lamps: list[Path]) -> None:
    code = f"import torch\nclass Mine:\n    def score(self, images, prompts): return {returned}\n"
    with pytest.raises(ModelError, check=at("Mine", found=found)):
        load_scorer(in_file(tmp_path, code)).score(lamps, "a lamp")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("pass", "a Mine without score(images, prompts)"),
        ("score, log_odds_per_point = print, -1", "is -1"),
        ("score, reads_prompt = print, 'no'", "is 'no'"),
        ("encode_images = 1", "a network without preprocessing, device"),
        ("score, version = print, 1", "version is 1"),
        ("score, scale = print, 'a\\nb'", "scale is 'a\\nb'"),
        ("def __init__(self, path): ...", "'path'"),
    ],
)
def test_objects_that_do_not_fit_are_named(body: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, check=at("Mine", found=found)):
        load_scorer(in_file(tmp_path, f"class Mine:\n    {body}\n"))


@pytest.mark.parametrize(
    ("line", "wrong", "place", "found"),
    [
        ("preprocessing =", "preprocessing = 224", "Redness", "preprocessing is 224"),
        ("scale, log_odds_per_point =", "scale, log_odds_per_point = 'x', -1", "Redness", "log_odds_per_point is -1"),
        ("reads_prompt, differentiable =", "reads_prompt = differentiable = 'no'", "Redness", "reads_prompt is 'no'"),
        ("        self.device,", "        self.device = 'cpu'", "Redness", "device is 'cpu'"),
        ("        return pixels", "        return [1.0]", "encode_images", "returned list"),
        ("        return pixels", "        return pixels[:, 0]", "encode_images", "returned float32 (2, 64, 64)"),
        ("        return pixels", "        return pixels[:1, 0, 0]", "encode_images", "returned float32 (1, 64)"),
        ("        return pixels", "        return pixels.nope", "encode_images", "AttributeError"),
        ("        return torch.empty", "        return None", "encode_prompts", "returned NoneType"),
        ("        return images", "        return images.long()", "compare", "returned int64 (2, 1)"),
        (
            "        return images",
            "        return [][0]",
            "compare",
            "IndexError (list index out of range) in mine.py, line",
        ),
        ("        return images", "        return images[:, 0] / 0 - images[:, 0] / 0", "Redness", "not finite"),
    ],
)
def test_networks_are_held_to_the_contract(
    line: str, wrong: str, place: str, found: str, tmp_path: Path, lamps: list[Path]
) -> None:
    (whole,) = re.findall(rf"^ *{re.escape(line.strip())}.*$", NETWORK, re.MULTILINE)
    code = NETWORK.replace(whole, wrong if wrong.startswith(" ") else f"    {wrong}")
    with pytest.raises(ModelError, check=at(place, found=found)):
        load_scorer(in_file(tmp_path, code, "Redness")).score(lamps, "a lamp")


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"precision": "bf16"}, "precision"),
        ({"device": "cpu"}, "device"),
        ({"arch": "ViT-H-14"}, "arch"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_options_that_it_does_not_know(options: dict[str, str], place: str, tmp_path: Path) -> None:
    name = in_file(tmp_path, "class Mine:\n    def score(self, images, prompts): ...\n")
    with pytest.raises(InputError, check=at(place)):
        load_scorer(name, **options)  # type: ignore[arg-type]


def test_files_that_are_not_there_or_hold_something_else(tmp_path: Path) -> None:
    name = in_file(tmp_path, "import module_that_nobody_has")
    with pytest.raises(ModelError, check=at(name, found="No module named 'module_that_nobody_has'")):
        load_scorer(name)
    with pytest.raises(ModelError, check=at(tmp_path / "nope.py", found="No such file or directory")):
        load_scorer(tmp_path / "nope.py:Mine")
    for code, found in (("Mine = 3", "is a int"), ("", "is missing")):
        with pytest.raises(ModelError, check=at(name, found=found, expected="a class or a function")):
            load_scorer(in_file(tmp_path, code))
    with pytest.raises(InputError, check=at(tmp_path / "mine.py", found="Python", cure="mine.py:Name")):
        load_scorer(tmp_path / "mine.py")


def test_nothing_is_imported_before_it_is_asked_for(folder: Path) -> None:
    install(folder, "loud_a", {"loud": "loud_a:load"}, "raise RuntimeError('imported')")
    assert set(plugins()) == {"loud"}
    load_scorer("random")
    with pytest.raises(UnknownModelError):
        load_scorer("quiet")
    with pytest.raises(ModelError, check=at("loud", found="RuntimeError (imported) in loud_a.py, line 1")):
        load_scorer("loud")


def test_names_of_hpskit_come_first_and_names_are_unique(folder: Path) -> None:
    install(folder, "package_e", {"random": "package_e:load", "random:2": "package_e:load"}, "")
    for name in ("random", "random:2"):
        assert load_scorer(name).info.licence == "Apache-2.0"
    for package in ("package_c", "package_d"):
        install(folder, package, {"mine": f"{package}:load"}, "")
    with pytest.raises(ModelError, check=at("mine", found="is offered by package_")):
        load_scorer("mine")
