"""The painter: a generator of pictures that needs no weights and no download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral

import numpy as np
from PIL import Image

from hpskit import __version__
from hpskit.errors import InputError
from hpskit.images.contract import GeneratorInfo
from hpskit.images.painter.canvas import Canvas, Dice
from hpskit.images.painter.finish import finish
from hpskit.images.painter.flat import paint_abstract
from hpskit.images.painter.landscape import paint_landscape
from hpskit.images.painter.palette import make_palette
from hpskit.images.painter.scene import Genre, Scene, Thing, read_scene
from hpskit.images.painter.settings import SETTINGS, PainterSettings
from hpskit.images.painter.still_life import paint_still_life
from hpskit.images.painter.vocabulary import COLOURS, GROUPS

__all__ = ["Painter", "half_heard", "paint"]

_VERSION = "1.0"
_LARGEST_SEED = 2**63 - 1
_GENRES: dict[Genre, Callable[[Canvas, Scene], None]] = {
    "landscape": paint_landscape,
    "still life": paint_still_life,
    "abstract": paint_abstract,
}


class Painter:
    """Paints landscapes, still lifes and shapes from the words of a prompt; see `hpskit.images.contract.Generator`.

    It knows about 240 English words and their plurals (`vocabulary.py`): colours, numbers to twelve, times of day,
    weather, and things, which it counts and colours. Where they are to stand it decides itself. Words that it does
    not know are no error: they only change the dice, and a prompt of nothing else becomes some hills. The same prompt,
    seed and settings give the same bytes in every process; other versions of NumPy or Pillow may differ in single
    levels of a pixel.
    """

    def __init__(self, settings: PainterSettings | str = "fine") -> None:
        """Settings, or the name of some: `fine`, `plain` or `poor`.

        Raises:
            InputError: no settings have that name.
        """
        if isinstance(settings, str):
            if settings not in SETTINGS:
                expected = ", ".join(SETTINGS)
                raise InputError(f"painter: settings are {settings!r}, expected one of {expected} or PainterSettings")
            settings = SETTINGS[settings]
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Painter {self._settings}>"

    @property
    def info(self) -> GeneratorInfo:
        """Name, version and all settings."""
        return GeneratorInfo(
            name="painter", version=_VERSION, settings=self._settings.to_json(), package=f"hpskit {__version__}"
        )

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """N prompts and N seeds -> N square RGB images.

        Raises:
            InputError: a prompt is empty, a seed is no whole number of at least 0, or their numbers differ.
        """
        if isinstance(prompts, str) or len(prompts) != len(seeds):
            shown = "one string" if isinstance(prompts, str) else f"{len(prompts)}"
            raise InputError(f"painter: prompts are {shown} for {len(seeds)} seeds, expected a list with one for each")
        return [self._paint(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _paint(self, prompt: str, seed: int) -> Image.Image:
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed <= _LARGEST_SEED:
            raise InputError(f"painter: seed is {seed!r}, expected a whole number from 0 to {_LARGEST_SEED}")
        dice = Dice(prompt, int(seed))
        return paint(half_heard(read_scene(prompt), self._settings.following, dice.of("hearing")), self._settings, dice)


def paint(scene: Scene, settings: PainterSettings, dice: Dice) -> Image.Image:
    """A scene as a square RGB image."""
    canvas = Canvas(settings, make_palette(scene, settings, dice.of("palette")), dice)
    _GENRES[scene.genre](canvas, scene)
    return finish(canvas)


def half_heard(scene: Scene, following: float, rng: np.random.Generator) -> Scene:
    """The scene as a careless listener remembers it.

    Each thing is miscounted or given another colour with the chance 1 - following, and left out with half of it; so
    is the time of day. At least one thing is kept that is more than a background, if there is one.
    """
    names = tuple(COLOURS)
    kept: list[Thing] = []
    for thing in scene.things:
        missed = rng.random(3) >= following
        other = names[int(rng.integers(len(names)))]
        count = max(1, thing.count + int(rng.integers(-2, 4)))
        if missed[0] and rng.random() < 0.5:
            continue
        colour = other if missed[1] else thing.colour
        kept.append(replace(thing, count=count if missed[2] and thing.count > 1 else thing.count, colour=colour))
    time = "day" if rng.random() >= following else scene.time
    main = [thing for thing in scene.things if GROUPS[thing.kind] != "surface"]
    if main and all(GROUPS[thing.kind] == "surface" for thing in kept):
        kept.append(main[0])
    return replace(scene, things=tuple(kept), time=time)
