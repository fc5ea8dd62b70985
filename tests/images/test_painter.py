"""The painter: the same bytes from the same dice, pictures that follow the prompt, settings that can be told apart."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import Cli
from hpskit.errors import InputError
from hpskit.images.contract import Generator
from hpskit.images.painter import SETTINGS, Painter, PainterSettings, Scene, Thing, read_scene
from hpskit.images.painter.canvas import Dice
from hpskit.images.painter.painter import half_heard, paint
from hpskit.images.painter.scene import Genre
from hpskit.images.painter.vocabulary import GROUPS

PROMPTS = [
    json.loads(line) for line in (Path(__file__).parents[2] / "runs/demo_prompts.jsonl").read_text().splitlines()
]

_TAKEN_FOR_GRANTED = {"hill", "meadow", "stars", "sky", "water", "background", "table"}
"""Kinds that are there without being named, or that only give a colour a place."""
_GENRES: dict[str, Genre] = {"flat": "abstract", "solid": "still life"}

KNOWN = {
    "three boats on a lake at sunset": [97, 103, 91, 91, 132, 143, 126, 114, 83, 88, 79, 76, 72, 74, 69, 64],
    "two apples and a candle": [88, 102, 102, 98, 104, 114, 109, 99, 83, 87, 79, 78, 54, 49, 52, 60],
    "a city at night in the rain": [32, 25, 26, 18, 37, 41, 39, 34, 50, 52, 54, 49, 20, 23, 23, 20],
}


def small(**changes: object) -> Painter:
    return Painter(dataclasses.replace(PainterSettings(size=96), **changes))  # type: ignore[arg-type]


def pixels(prompt: str, seed: int = 1, **changes: object) -> NDArray[np.float64]:
    return np.asarray(small(**changes).generate([prompt], [seed])[0], dtype=float)


def share_of_hue(prompt: str, channel: int, seed: int = 1) -> float:
    """How much stronger a channel is than the mean of the others, in grey levels."""
    means = pixels(prompt, seed).reshape(-1, 3).mean(axis=0)
    return float(means[channel] - np.delete(means, channel).mean())


def test_it_is_a_generator() -> None:
    painter = Painter("plain")
    assert isinstance(painter, Generator)
    assert painter.info.settings == SETTINGS["plain"].to_json()
    json.dumps(painter.info.to_json())
    image = painter.generate(["a house"], [0])[0]
    assert (image.mode, image.size) == ("RGB", (512, 512))


def test_the_same_bytes_in_another_process(cli_python: Cli) -> None:
    prompts = ["a lighthouse above a stormy sea", "three red apples"]
    code = (
        "import hashlib\nfrom hpskit.images.painter import Painter\n"
        f"for image in Painter('poor').generate({prompts!r}, [3, 4]):\n"
        "    print(hashlib.sha256(image.tobytes()).hexdigest())"
    )
    done = cli_python(code, PYTHONHASHSEED="12345")
    here = [hashlib.sha256(image.tobytes()).hexdigest() for image in Painter("poor").generate(prompts, [3, 4])]
    assert done.stdout.split() == here, done.stderr


@pytest.mark.parametrize(("prompt", "known"), KNOWN.items())
def test_pictures_stay_as_they_are(prompt: str, known: list[int]) -> None:
    """Mean grey of sixteen squares. If this fails, the pictures have changed and so must the painter's version."""
    assert Painter().info.version == "1.0"
    image = Painter(PainterSettings(size=256)).generate([prompt], [1])[0].convert("L")
    squares = np.asarray(image, dtype=float).reshape(4, 64, 4, 64).mean(axis=(1, 3))
    np.testing.assert_allclose(squares.ravel(), known, atol=1)


def test_an_image_does_not_depend_on_its_company() -> None:
    prompts = ["a castle on a hill", "two boats at dusk", "a blue cube"]
    together = small().generate(prompts, [1, 2, 3])
    apart = [small().generate([prompt], [seed])[0] for prompt, seed in zip(prompts, (1, 2, 3), strict=True)]
    assert [image.tobytes() for image in together] == [image.tobytes() for image in apart]


@pytest.mark.parametrize("prompt", ["a mountain lake", "two pears on a table", "five circles"])
def test_seed_prompt_and_settings_all_count(prompt: str) -> None:
    images = [
        pixels(prompt),
        pixels(prompt, seed=2),
        pixels(f"{prompt} at sunset"),
        pixels(prompt, detail=0.2),
        pixels(prompt, noise=0.1),
        pixels(prompt, jpeg=20),
    ]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("subject", ["a {} sea", "a {} sky over hills", "{} mountains", "a {} meadow", "a {} desert",
                                     "a {} sphere", "a cube on a {} table", "stars on a {} background"])  # fmt: skip
def test_colour_words_colour_the_picture(subject: str) -> None:
    for channel, name in ((0, "red"), (2, "blue")):
        other = "blue" if name == "red" else "red"
        assert share_of_hue(subject.format(name), channel) > share_of_hue(subject.format(other), channel) + 5


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_as_many_as_asked_for_can_be_seen(count: int) -> None:
    """Black shapes on white, counted as patches that hang together."""
    from scipy import ndimage

    image = np.asarray(
        Painter().generate([f"{count} black circle{'s' if count > 1 else ''} on a white background"], [count])[0],
        dtype=float,
    )
    _, patches = ndimage.label(ndimage.binary_opening(image.max(axis=2) < 60, iterations=3))
    assert patches == count


def test_there_are_colours_left_when_the_prompt_takes_all() -> None:
    image = pixels(
        "a red circle, a blue circle, a golden ring, a turquoise ring, an orange star, a black star, a square"
    )
    assert image.shape == (96, 96, 3)


@pytest.mark.parametrize(("rest", "more"), [("a white vase", "red poppies"), ("a blue sphere", "a red square")])
def test_a_still_life_has_room_for_flowers_and_shapes(rest: str, more: str) -> None:
    without, with_it = pixels(rest), pixels(f"{rest} and {more}")
    red = [(image[..., 0] - image[..., 1:].max(axis=2) > 90).sum() for image in (without, with_it)]
    assert red[1] > red[0] + 100


def test_night_is_darker_than_day_and_fog_greyer_than_a_clear_day() -> None:
    day, night, fog = (pixels(f"a castle on a hill, {when}") for when in ("at noon", "at night", "in the fog"))
    assert night.mean() < day.mean() / 2
    assert np.ptp(fog, axis=2).mean() < np.ptp(day, axis=2).mean() * 0.7


def test_following_is_kept_or_lost() -> None:
    scene = read_scene("three red boats, two white houses and a lighthouse by a blue sea at night")
    rng = np.random.default_rng(0)
    assert half_heard(scene, 1.0, rng) == scene
    heard = [half_heard(scene, 0.3, rng) for _ in range(50)]
    assert all(h.things for h in heard)
    assert sum(h != scene for h in heard) > 45
    kept = np.mean([len(h.things) for h in heard]) / len(scene.things)
    assert 0.5 < kept < 0.8  # each of them is lost with the chance 0.7 / 2


@pytest.mark.parametrize("kind", sorted(set(GROUPS) - _TAKEN_FOR_GRANTED))
def test_every_thing_can_be_seen(kind: str) -> None:
    """Two scenes that differ in this thing alone, painted with the same dice, differ in many pixels."""
    rest = {"flat": "circle", "solid": "sphere"}.get(GROUPS[kind], "hill")
    with_it, without = (
        Scene(genre=_GENRES.get(GROUPS[kind], "landscape"), things=things, time="night", weather=frozenset(), mood=())
        for things in ((Thing(kind=rest), Thing(kind=kind)), (Thing(kind=rest),))
    )
    images = [
        np.asarray(paint(scene, PainterSettings(size=96), Dice("dice", 3)), dtype=float) for scene in (with_it, without)
    ]
    assert (np.abs(images[0] - images[1]).max(axis=2) > 6).sum() > 25


@given(
    st.integers(64, 160),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(PROMPTS),
    st.integers(0, 2**63 - 1),
)
@hypothesis_settings(max_examples=40)
def test_all_valid_settings_paint(
    size: int, detail: float, light: float, care: float, row: dict[str, str], seed: int
) -> None:
    settings = PainterSettings(
        size=size, layers=1 + seed % 6, detail=detail, light=light, harmony=care, placement=care, following=care
    )
    image = Painter(settings).generate([row["prompt"]], [seed])[0]
    assert (image.mode, image.size) == ("RGB", (size, size))


@pytest.mark.parametrize("size", [64, 65, 333, 1024])
def test_sizes_are_exact(size: int) -> None:
    assert Painter(PainterSettings(size=size)).generate(["a village by a river"], [0])[0].size == (size, size)


def test_each_flaw_does_what_it_says() -> None:
    image = pixels("a lake and mountains", levels=4)
    assert len(np.unique(image)) <= 4
    assert np.ptp(pixels("a lake and mountains", saturation=0.0), axis=2).max() <= 2
    sharp, soft = (np.abs(np.diff(pixels("a city", blur=b), axis=1)).mean() for b in (0.0, 10.0))
    assert soft < sharp / 2
    clean, noisy = pixels("a blue sky", light=0.0), pixels("a blue sky", light=0.0, noise=0.1)
    assert 18 < (noisy - clean).std() < 27  # 0.1 of 255, less what is cut off at black and white


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 63}, "size is 63, expected a whole number from 64 to 1024"),
        ({"size": 100.0}, "size is 100.0, expected a whole number"),
        ({"detail": 1.5}, "detail is 1.5, expected a number from 0 to 1"),
        ({"blur": float("nan")}, "blur is nan"),
        ({"light": True}, "light is True"),
        ({"jpeg": 0}, "jpeg is 0, expected a whole number from 1 to 100"),
        ({"colour": 1}, "my.toml: setting 'colour' is unknown, expected one of size, layers"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=r"^my\.toml: ") as caught:
        PainterSettings.from_json(change, "my.toml")
    assert message in str(caught.value)


def test_settings_go_there_and_back() -> None:
    for settings in SETTINGS.values():
        assert PainterSettings.from_json(json.loads(json.dumps(settings.to_json())), "x") == settings


def test_what_is_not_possible_is_an_error() -> None:
    with pytest.raises(InputError, match="settings are 'superb', expected one of fine, plain, poor"):
        Painter("superb")
    with pytest.raises(InputError, match="prompts are 2 for 1 seeds"):
        Painter().generate(["a", "b"], [1])
    with pytest.raises(InputError, match="prompts are one string"):
        Painter().generate("a", [1])
    with pytest.raises(InputError, match="seed is -1, expected a whole number from 0"):
        Painter().generate(["a house"], [-1])
    with pytest.raises(InputError, match="prompt is ' '"):
        Painter().generate([" "], [1])


def test_the_prompts_of_the_demo_are_understood() -> None:
    assert len({row["prompt"] for row in PROMPTS}) == len(PROMPTS) == 40
    categories = [row["category"] for row in PROMPTS]
    assert list(dict.fromkeys(categories)) == ["landscape", "sea", "night", "still life"]
    for row in PROMPTS:
        scene = read_scene(row["prompt"])
        assert scene.things
        assert (scene.genre != "landscape") == (row["category"] == "still life")
        assert row["category"] != "night" or scene.time == "night"


def test_mini_puts_the_settings_in_their_order() -> None:
    import hpskit

    prompts = [row["prompt"] for row in PROMPTS[::5]]
    scorer = hpskit.load_scorer("mini", device="cpu")
    scores = {name: scorer.score(Painter(name).generate(prompts, [0] * len(prompts)), prompts) for name in SETTINGS}
    assert list(scores) == ["fine", "plain", "poor"]
    assert float((scores["plain"] - scores["poor"]).min()) > 0
    difference = (scores["fine"] - scores["plain"]).double()
    assert float(difference.mean()) > 2.5 * float(difference.std()) / len(prompts) ** 0.5
