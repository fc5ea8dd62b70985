"""The words that the painter knows: colours, numbers, times, weather and things."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "BLOOMS",
    "COLOURS",
    "COLOUR_WORDS",
    "COUNT_WORDS",
    "GROUPS",
    "NOUNS",
    "PLURALS",
    "TIME_WORDS",
    "WEATHER_WORDS",
]

RGB = tuple[float, float, float]
Group = Literal["land", "sky", "outdoors", "solid", "flat", "surface"]


def _turned_round(names: dict[str, str]) -> dict[str, str]:
    return {word: name for name, words in names.items() for word in words.split(", ")}


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "sh", "ch")) else f"{word}s"


COLOURS: dict[str, RGB] = {
    "red": (0.80, 0.13, 0.13),
    "orange": (0.93, 0.49, 0.11),
    "yellow": (0.95, 0.80, 0.18),
    "green": (0.22, 0.56, 0.25),
    "turquoise": (0.16, 0.68, 0.66),
    "blue": (0.15, 0.35, 0.78),
    "purple": (0.49, 0.25, 0.65),
    "pink": (0.93, 0.52, 0.65),
    "brown": (0.45, 0.29, 0.18),
    "white": (0.95, 0.94, 0.91),
    "grey": (0.55, 0.56, 0.58),
    "black": (0.10, 0.10, 0.12),
    "golden": (0.90, 0.66, 0.22),
}
"""Name -> red, green, blue from 0 to 1, in full light."""

COLOUR_WORDS: dict[str, str] = {
    **{name: name for name in COLOURS},
    **_turned_round(
        {
            "red": "crimson, scarlet",
            "turquoise": "teal, cyan",
            "purple": "violet, lilac",
            "grey": "gray, silver",
            "golden": "gold, amber",
        }
    ),
}

COUNT_WORDS: dict[str, int] = {
    word: number
    for number, words in {
        1: "a, an, one, 1, single, lonely, lone",
        2: "two, 2, pair, couple",
        3: "three, 3, few",
        4: "four, 4, several",
        5: "five, 5",
        6: "six, 6",
        7: "seven, 7, many",
        8: "eight, 8",
        9: "nine, 9",
        10: "ten, 10",
        11: "eleven, 11",
        12: "twelve, 12, dozen",
    }.items()
    for word in words.split(", ")
}

TIME_WORDS: dict[str, str] = _turned_round(
    {
        "dawn": "dawn, sunrise, morning",
        "day": "day, noon, midday, daylight, afternoon",
        "sunset": "sunset, evening, golden hour",
        "dusk": "dusk, twilight",
        "night": "night, midnight, starry",
    }
)

WEATHER_WORDS: dict[str, str] = _turned_round(
    {
        "clear": "clear, sunny, cloudless",
        "clouds": "cloudy",
        "overcast": "overcast, gloomy",
        "fog": "fog, foggy, mist, misty, haze, hazy",
        "rain": "rain, rainy, raining",
        "storm": "storm, stormy, thunderstorm",
        "snowfall": "snowfall, snowing, snowstorm, blizzard, falling snow",
        "winter": "winter, wintry, snowy",
        "autumn": "autumn, autumnal",
    }
)

_THINGS: dict[str, tuple[Group, int, str]] = {  # kind: (group, what a plural without a number stands for, words)
    "mountain": ("land", 5, "mountain, peak, summit"),
    "hill": ("land", 5, "hill"),
    "forest": ("land", 1, "forest, wood, woodland, pine forest, fir forest, pine wood"),
    "city": ("land", 1, "city, town, skyline"),
    "desert": ("land", 1, "desert, dune"),
    "beach": ("land", 1, "beach, shore, coast"),
    "sea": ("land", 1, "sea, ocean, bay"),
    "wave": ("land", 1, "wave"),
    "lake": ("land", 1, "lake, pond"),
    "river": ("land", 1, "river, stream"),
    "meadow": ("land", 1, "meadow, field, grass, pasture, valley, prairie"),
    "snow": ("land", 1, "snow"),
    "island": ("land", 2, "island"),
    "sun": ("sky", 2, "sun"),
    "moon": ("sky", 2, "moon, moonlight, moonlit"),
    "crescent": ("sky", 2, "crescent moon, crescent"),
    "stars": ("sky", 1, "starlight, night sky, milky way"),
    "cloud": ("sky", 1, "cloud"),
    "aurora": ("sky", 1, "aurora, northern light"),
    "rainbow": ("sky", 2, "rainbow"),
    "lightning": ("sky", 1, "lightning"),
    "bird": ("sky", 6, "bird, gull, seagull, swallow"),
    "balloon": ("sky", 3, "balloon, hot-air balloon"),
    "tree": ("outdoors", 4, "tree, oak, birch, willow"),
    "pine": ("outdoors", 6, "pine, fir, spruce, pine tree, fir tree, spruce tree, conifer"),
    "palm": ("outdoors", 3, "palm, palm tree"),
    "house": ("outdoors", 4, "house, cottage, cabin, hut, barn, farmhouse"),
    "village": ("outdoors", 1, "village"),
    "church": ("outdoors", 2, "church, chapel"),
    "castle": ("outdoors", 2, "castle, fortress"),
    "lighthouse": ("outdoors", 2, "lighthouse"),
    "windmill": ("outdoors", 3, "windmill, mill"),
    "tent": ("outdoors", 3, "tent"),
    "boat": ("outdoors", 4, "boat, sailboat, sailing boat, ship, yacht"),
    "rock": ("outdoors", 5, "rock, stone, boulder"),
    "flower": ("outdoors", 1, "flower, wildflower, tulip, bloom, blossom, daisy"),
    "poppy": ("outdoors", 1, "poppy"),
    "lavender": ("outdoors", 1, "lavender"),
    "sunflower": ("outdoors", 1, "sunflower"),
    "sphere": ("solid", 3, "sphere, ball, orb, marble"),
    "cube": ("solid", 3, "cube, box, block"),
    "cone": ("solid", 3, "cone"),
    "cylinder": ("solid", 3, "cylinder"),
    "pyramid": ("solid", 3, "pyramid"),
    "apple": ("solid", 4, "apple"),
    "orange": ("solid", 4, "orange"),
    "lemon": ("solid", 4, "lemon"),
    "pear": ("solid", 3, "pear"),
    "plum": ("solid", 4, "plum"),
    "bottle": ("solid", 3, "bottle"),
    "vase": ("solid", 2, "vase, jug, pitcher"),
    "bowl": ("solid", 2, "bowl"),
    "candle": ("solid", 3, "candle"),
    "circle": ("flat", 3, "circle, disc, dot"),
    "square": ("flat", 3, "square"),
    "triangle": ("flat", 3, "triangle"),
    "rectangle": ("flat", 3, "rectangle"),
    "diamond": ("flat", 3, "diamond"),
    "hexagon": ("flat", 3, "hexagon"),
    "ring": ("flat", 3, "ring"),
    "star": ("flat", 5, "star"),
    "sky": ("surface", 1, "sky"),
    "water": ("surface", 1, "water"),
    "background": ("surface", 1, "background, backdrop, wall"),
    "table": ("surface", 1, "table, tabletop, desk"),
}

BLOOMS: dict[str, str] = {"flower": "pink", "poppy": "red", "lavender": "purple", "sunflower": "yellow"}
"""Kind of flower -> its usual colour."""

GROUPS: dict[str, Group] = {kind: group for kind, (group, _, _) in _THINGS.items()}
"""Kind of thing -> where such things are found."""

NOUNS: dict[str, str] = {word: kind for kind, (_, _, words) in _THINGS.items() for word in words.split(", ")}
"""One thing: word or words -> kind."""

PLURALS: dict[str, tuple[str, int]] = {
    _plural(word): (kind, many) for kind, (_, many, words) in _THINGS.items() for word in words.split(", ")
}
"""Several: word or words -> kind, and how many are meant if no number is given."""
