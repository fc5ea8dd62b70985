"""The painter: what it reads, the same bytes from the same seed, and qualities that can be told apart."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conftest import Cli
from error_fields import at
from hpskit.errors import InputError
from hpskit.images.contract import Generator
from hpskit.images.painter import SETTINGS, Painter, PainterSettings, Thing, read_scene
from hpskit.schema import parse

ROWS = [json.loads(line) for line in (Path(__file__).parents[2] / "runs/demo_prompts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("prompt", "things", "time", "weather"),
    [
        ("three white boats on the sea", [("boat", 3, "white"), ("sea", 1, "")], "day", set()),
        ("a red sphere, two blue cubes", [("sphere", 1, "red"), ("cube", 2, "blue")], "day", set()),
        ("A Full MOON over palm trees", [("moon", 1, ""), ("palm", 1, ""), ("tree", 3, "")], "night", set()),
        ("an orange tent, two oranges", [("tent", 1, "orange"), ("orange", 2, "")], "day", set()),
        ("a pine forest in the morning mist", [("forest", 1, "")], "dawn", {"fog"}),
        ("a village by a frozen lake", [("house", 6, ""), ("lake", 1, "")], "day", {"winter"}),
        ("hills under a red evening sky", [("hill", 3, ""), ("sky", 1, "red")], "sunset", set()),
        ("zwei Häuser am Meer", [], "day", set()),
    ],
)
def test_what_is_read(prompt: str, things: list[tuple[str, int, str]], time: str, weather: set[str]) -> None:
    assert read_scene(prompt) == (tuple(Thing(*thing) for thing in things), time, weather)


def test_the_prompts_of_the_demo_are_understood() -> None:
    assert len({row["prompt"] for row in ROWS}) == len(ROWS) == 40
    assert list(dict.fromkeys(row["category"] for row in ROWS)) == ["landscape", "sea", "night", "still life"]
    for row in ROWS:
        scene = read_scene(row["prompt"])
        assert scene.things
        assert row["category"] != "night" or scene.time == "night"


def test_the_same_bytes_in_another_process_and_other_company(cli_python: Cli) -> None:
    prompts = ["a lighthouse above a stormy sea", "three red apples"]
    code = (
        "import hashlib\nfrom hpskit.images.painter import Painter\n"
        f"for image in Painter('poor').generate({prompts!r}, [3, 4]):\n"
        "    print(hashlib.sha256(image.tobytes()).hexdigest())"
    )
    done = cli_python(code, PYTHONHASHSEED="12345")
    alone = [Painter("poor").generate([prompt], [seed])[0] for prompt, seed in zip(prompts, (3, 4), strict=True)]
    assert done.stdout.split() == [hashlib.sha256(image.tobytes()).hexdigest() for image in alone], done.stderr


@pytest.mark.parametrize("prompt", ["a mountain lake", "two pears on a table"])
def test_seed_prompt_and_settings_all_count(prompt: str) -> None:
    images = [
        Painter(PainterSettings(size=96, care=care)).generate([text], [seed])[0].tobytes()
        for text, seed, care in (
            (prompt, 1, 1.0),
            (prompt, 2, 1.0),
            (f"three boats, {prompt}", 1, 1.0),
            (prompt, 1, 0.9),
        )
    ]
    assert len(set(images)) == len(images)


@given(st.integers(64, 160), st.floats(0, 1), st.sampled_from(ROWS), st.integers(0, 2**63 - 1))
@hypothesis_settings(max_examples=20)
def test_all_settings_and_seeds_paint(size: int, care: float, row: dict[str, str], seed: int) -> None:
    painter = Painter(PainterSettings(size=size, care=care))
    assert isinstance(painter, Generator)
    (image,) = painter.generate([row["prompt"]], [seed])
    assert (image.mode, image.size) == ("RGB", (size, size))


@pytest.mark.parametrize("subject", ["a {} sea", "a {} sky over hills", "a {} sphere", "a cube on a {} table"])
def test_colour_words_colour_the_picture(subject: str) -> None:
    images = Painter(PainterSettings(size=96)).generate([subject.format("red"), subject.format("blue")], [1, 1])
    red, blue = (np.asarray(image, float).mean(axis=(0, 1)) for image in images)
    assert red[0] - red[2] > blue[0] - blue[2] + 5


def test_settings_are_checked() -> None:
    assert Painter("plain").info.settings == {"size": 512, "care": 0.5}
    with pytest.raises(InputError, check=at("painter: settings", found="'superb'")):
        Painter("superb")
    with pytest.raises(InputError, check=at("my.toml: care", found="1.5")):
        parse(PainterSettings, {"care": 1.5}, "my.toml")


def test_mini_puts_the_qualities_in_their_order() -> None:
    import hpskit

    prompts = [row["prompt"] for row in ROWS[::6]]
    scorer = hpskit.load_scorer("mini", device="cpu")
    scores = [scorer.score(Painter(name).generate(prompts, [0] * len(prompts)), prompts) for name in SETTINGS]
    assert list(SETTINGS) == ["fine", "plain", "poor"]
    for better, worse in itertools.pairwise(scores):
        difference = (better - worse).double()
        assert float(difference.mean()) > 2.5 * float(difference.std()) / len(prompts) ** 0.5


@pytest.mark.parametrize(
    ("prompts", "seeds", "place", "found"),
    [
        (["a", "b"], [1], "painter: prompts", "['a', 'b']"),
        ("a", [1], "painter: prompts", "'a'"),
        (["a house"], [-1], "painter: seed", "-1"),
        ([" "], [1], "painter: prompt", "' '"),
        ([7], [1], "painter: prompt", "7"),
    ],
)
def test_what_cannot_be_painted(prompts: list[str], seeds: list[int], place: str, found: str) -> None:
    with pytest.raises(InputError, check=at(place, found=found)):
        Painter().generate(prompts, seeds)
