"""What the painter understands of a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.errors import InputError
from hpskit.images.painter import Thing, read_scene
from hpskit.images.painter.vocabulary import COLOURS, GROUPS, NOUNS, PLURALS


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("three white boats on the sea", [("boat", 3, "white"), ("sea", 1, None)]),
        ("a red circle, two blue squares", [("circle", 1, "red"), ("square", 2, "blue")]),
        ("two old wooden boats", [("boat", 2, None)]),
        ("A Full MOON over palm trees", [("moon", 1, None), ("palm", 3, None)]),
        ("an orange, an orange sun and two oranges", [("orange", 1, None), ("sun", 1, "orange"), ("orange", 2, None)]),
        ("a pair of hot-air balloons", [("balloon", 2, None)]),
        ("a pine forest", [("forest", 1, None)]),
        ("a field of poppies", [("meadow", 1, None), ("poppy", 1, None)]),
        ("12 birds", [("bird", 12, None)]),
        ("zwei Häuser am Meer", []),
    ],
)
def test_things_with_their_numbers_and_colours(prompt: str, things: list[tuple[str, int, str | None]]) -> None:
    assert list(read_scene(prompt).things) == [Thing(kind=k, count=n, colour=c) for k, n, c in things]


@pytest.mark.parametrize(
    ("prompt", "genre"),
    [
        ("a red circle on a white background", "abstract"),
        ("seven stars", "abstract"),
        ("stars above the sea", "landscape"),
        ("a red sphere and a circle", "still life"),
        ("flowers in a vase", "still life"),
        ("flowers in a meadow", "landscape"),
        ("a ball on a beach", "landscape"),
        ("something else", "landscape"),
    ],
)
def test_genre(prompt: str, genre: str) -> None:
    assert read_scene(prompt).genre == genre


@pytest.mark.parametrize(
    ("prompt", "time", "weather"),
    [
        ("a sea", "day", set()),
        ("a misty morning", "dawn", {"fog"}),
        ("the moon above a village in falling snow", "night", {"snowfall"}),
        ("a crescent moon at dusk", "dusk", set()),
        ("a stormy evening in autumn", "sunset", {"storm", "autumn"}),
    ],
)
def test_time_and_weather(prompt: str, time: str, weather: set[str]) -> None:
    scene = read_scene(prompt)
    assert (scene.time, scene.weather) == (time, weather)


def test_a_colour_of_nothing_in_particular_is_the_mood() -> None:
    scene = read_scene("hills in violet, and a golden glow")
    assert scene.mood == ("purple", "golden")
    assert all(thing.colour is None for thing in scene.things)


@pytest.mark.parametrize("prompt", ["", " \n", None, 7])
def test_no_prompt_is_an_error(prompt: object) -> None:
    with pytest.raises(InputError, match=r"prompt is .* expected a text that is not empty"):
        read_scene(prompt)  # type: ignore[arg-type]


@given(st.text(min_size=1).filter(lambda text: bool(text.strip())))
def test_every_text_is_read(prompt: str) -> None:
    scene = read_scene(prompt)
    assert all(thing.count >= 1 and thing.kind in GROUPS for thing in scene.things)


@given(st.integers(2, 12), st.sampled_from(sorted(COLOURS)), st.sampled_from(sorted(PLURALS)))
def test_number_colour_and_thing_are_always_heard(count: int, colour: str, plural: str) -> None:
    things = read_scene(f"{count} {colour} {plural}").things
    assert things == (Thing(kind=PLURALS[plural][0], count=count, colour=colour),)


def test_every_word_stands_for_something_that_can_be_painted() -> None:
    assert set(NOUNS.values()) == set(GROUPS)
    assert {kind for kind, _ in PLURALS.values()} == set(GROUPS)
