"""A generator without weights: landscapes and still lifes, painted from the words of a prompt.

It knows the words of the demo's prompts (`painter.json`) and passes over all others. Its three qualities paint one
composition, from good to deliberately poor, so the order of their images is known.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFilter
from pydantic import Field

from hpskit import __version__
from hpskit.errors import InputError, shown
from hpskit.images.contract import GeneratorInfo, GeneratorSettings

Array = NDArray[Any]
Piece = tuple[Any, Array]
"""Corners (N, 2), right of and above the foot of a thing, in its heights; and a colour (3,) from 0 to 1."""

DATA = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""Colours, words, the air at each time of day, and the outlines of things as `Canvas.shape` reads them."""
COLOURS = {name: np.array(ImageColor.getrgb(code), np.float32) / 255 for name, code in DATA["colours"].items()}
AIR = {time: np.array([ImageColor.getrgb(code) for code in codes]) / 255 for time, codes in DATA["air"].items()}
"""Zenith, middle of the sky, horizon, sun or moon, haze, light and shade: (7, 3) from 0 to 1."""
OUTDOORS = (*DATA["heights"], *DATA["blooms"], *DATA["coast"], *DATA["outdoors"])


class PainterSettings(GeneratorSettings):
    """Settings of the painter; the defaults are its best. `SETTINGS` holds three qualities, best first."""

    kind: str = "painter"
    name: str = "painter"
    size: Annotated[int, Field(ge=64, le=1024)] = 512
    """Width and height in pixels."""
    care: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Towards 0: no light, flat, harsh colours, things lost and misplaced, blur, bands, noise and JPEG blocks."""


SETTINGS = {"fine": PainterSettings(), "plain": PainterSettings(care=0.5), "poor": PainterSettings(care=0.1)}


class Thing(NamedTuple):
    """Something to be seen, how many, and a colour or what the painter likes."""

    kind: str
    number: int = 1
    colour: str = ""


class Scene(NamedTuple):
    """The part of a prompt that the painter understands."""

    things: tuple[Thing, ...]
    time: str
    weather: frozenset[str]

    def find(self, *kinds: str) -> Thing | None:
        """Return the first thing of these kinds."""
        return next((thing for thing in self.things if thing.kind in kinds), None)

    def colour(self, kind: str) -> Array:
        """Return the colour that the prompt gives to a kind, or its usual one."""
        named = next((thing.colour for thing in self.things if thing.kind == kind and thing.colour), "")
        return COLOURS[named or DATA["usual"].get(kind, "white")]


def read_scene(prompt: str) -> Scene:
    """Read a prompt: a count and a colour belong to the next thing named; a plural alone stands for three.

    Raises:
        InputError: the prompt is empty or not a string.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("painter: prompt", f"is {shown(prompt)}", expected="a text that is not empty")
    text = prompt.lower()
    for phrase in DATA["words"]:
        text = text.replace(phrase.replace("-", " "), phrase)
    things, time, weather, count, colour = [], "day", set(), 0, ""
    for word in re.findall(r"[a-z-]+", text):
        single = word if word in DATA["words"] else word.removesuffix("s")
        kind = DATA["words"].get(single, single)
        time = kind if kind in AIR else "night" if kind in ("moon", "star", "aurora") else time
        weather |= {kind} & DATA["weather"].keys()
        count = DATA["counts"].get(word, count)
        if word in DATA["named"]:
            colour = word
        elif kind in DATA["bodies"] or kind in OUTDOORS or kind in ("wall", "table"):
            things.append(Thing(kind, count or (1 if single == word else 3), colour))
            count, colour = 0, ""
    return Scene(tuple(things), time, frozenset(weather))


class Painter:
    """See `hpskit.images.contract.Generator`; other versions of NumPy or Pillow may change a pixel by a level."""

    def __init__(self, settings: PainterSettings | str = "fine") -> None:
        """Take settings, or the name of some in `SETTINGS`.

        Raises:
            InputError: no settings have that name.
        """
        if isinstance(settings, str) and settings not in SETTINGS:
            raise InputError("painter: settings", f"are {shown(settings)}", expected=f"one of {', '.join(SETTINGS)}")
        self.settings = SETTINGS[settings] if isinstance(settings, str) else settings

    @property
    def info(self) -> GeneratorInfo:
        """Name, version and all settings."""
        own = self.settings.own()
        return GeneratorInfo(name="painter", version="2.0", settings=own, package=f"hpskit {__version__}")

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """N prompts and N seeds -> N square RGB images.

        Raises:
            InputError: a prompt is empty, a seed is negative or no whole number, or their numbers differ.
        """
        if isinstance(prompts, str) or len(prompts) != len(seeds):
            raise InputError(
                "painter: prompts", f"are {shown(prompts)}", expected=f"a list of {len(seeds)}, like seeds"
            )
        if wrong := [seed for seed in seeds if not isinstance(seed, int | np.integer) or seed < 0]:
            raise InputError("painter: seed", f"is {shown(wrong[0])}", expected="a whole number from 0")
        return [paint(prompt, int(seed), self.settings) for prompt, seed in zip(prompts, seeds, strict=True)]


Settings, load = PainterSettings, Painter


def paint(prompt: str, seed: int, settings: PainterSettings) -> Image.Image:
    """Paint one image."""
    canvas = Canvas(read_scene(prompt), settings, hashlib.sha256(f"{seed}\0{prompt}".encode()).digest())
    (paint_landscape if canvas.outdoors else paint_still_life)(canvas)
    return canvas.finished()


def mix(first: Array, second: Array, share: Array | float) -> Any:
    """Go from `first` (share 0) to `second` (share 1); colours (…, 3) with shares (…)."""
    return first + (second - first) * (share[..., None] if isinstance(share, np.ndarray) and share.ndim else share)


def step(low: float, high: float, value: Array) -> Any:
    """Return 0 at `low`, 1 at `high`, and a soft passage between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int], octaves: int) -> Any:
    """Make smooth noise (height, width), 0 to 1, that continues at the opposite edge; octaves double in fineness."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows, columns = (n * 2**octave for n in cells)
        grid = Image.fromarray(np.pad(rng.random((rows, columns), dtype=np.float32), 3, mode="wrap"))
        box = (3.0, 3.0, 3.0 + columns, 3.0 + rows)
        total += np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)) * 0.5**octave
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def disc(x: float, y: float, across: float, down: float, corners: int = 32) -> Array:
    """Return the corners of an ellipse with its centre and half axes."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + across * np.sin(angle), y + down * np.cos(angle)], axis=1)


class Canvas:
    """A square picture, painted from the back to the front; places and lengths are shares of its width."""

    def __init__(self, scene: Scene, settings: PainterSettings, key: bytes) -> None:
        self.care, self.n, self.key = settings.care, settings.size, key
        self.outdoors = scene.find(*OUTDOORS) or not scene.find(*DATA["bodies"])
        rng = self.dice("following")
        heard = (*scene.things[:1], *(thing for thing in scene.things[1:] if rng.random() < 0.4 + self.care))
        self.scene = scene = scene._replace(things=heard, time=scene.time if self.outdoors else "day")
        self.pixels: Array = np.zeros((self.n, self.n, 3), np.float32)
        self.y: Array = ((np.arange(self.n, dtype=np.float32) + 0.5) / self.n)[:, None]
        self.x: Array = self.y.T
        self.side = 1 if self.dice("side").random() < 0.5 else -1  # where the light comes from: -1 is left
        self.horizon, self.sun = 0.54, (0.5, 0.0)
        self.grey = max((DATA["weather"][w] for w in scene.weather), default=0.0)
        air, tint = AIR[scene.time], scene.colour("sky")
        level = air.mean(axis=1, keepdims=True)
        if tint is not COLOURS["white"]:
            air = mix(air, tint * level / tint.mean(), np.array([0.8, 0.7, 0.4, 0, 0.3, 0, 0]))
        air = mix(air, level, self.grey) * (1 - max(0.0, self.grey - 0.5))
        air = mix(air, self.dice("air").permuted(air, axis=1), 0.8 * (1 - self.care)).astype(np.float32)
        self.zenith, self.middle, self.low, self.lamp, self.haze, self.light, self.shade = air

    def dice(self, part: str) -> np.random.Generator:
        """Return random numbers for one part of the picture, so that all settings compose it alike."""
        return np.random.Generator(np.random.PCG64([*hashlib.sha256(self.key + part.encode()).digest()]))

    def lit(self, colour: Array, light: Array | float) -> Any:
        """Show a colour in the light (1) or the shadow (0) of the scene."""
        return np.clip(colour * mix(self.shade, self.light, light), 0, 1)

    def lay(self, colour: Array, mask: Array, top: int = 0) -> None:
        """Paint a colour where the mask (rows, n) lets it, from the row number `top` down."""
        part = self.pixels[top : top + len(mask)]
        part[:] = mix(part, colour, np.clip(mask, 0, 1))

    def shine(self, colour: Array, mask: Array) -> None:
        """Add light (n, n)."""
        self.pixels += (1 - self.pixels) * np.clip(mask * self.care, 0, 1)[..., None] * colour

    def plane(self, part: str, cells: int, octaves: int, stretch: float) -> Any:
        """Lay noise out to the horizon, below and above it: (n, n), -0.5 to 0.5, 0 where it would flicker."""
        rng = self.dice(part)
        tile, drift = noise(rng, (256, 256), (cells, cells), octaves), rng.integers(256)
        away = np.abs(self.y - self.horizon) + 1.5 / self.n
        u = ((self.x - 0.5) / away / stretch * 128 + drift).astype(int) % 256
        v = ((1 - self.horizon) / away * 90 + drift).astype(int) % 256
        return (tile[v, u] - 0.5) * np.clip(away / 0.07, 0, 1)

    def draw(self, pieces: Sequence[Piece], x: float = 0.0, foot: float = 1.0, high: float = 1.0, **how: float) -> None:
        """Paint pieces in their order, drawn three times as large; `how`: haze, soft (blur), opacity, flip."""
        soft, scale = how.get("soft", 0.0) * self.n, (high, how.get("flip", -1) * high)
        corners = [(np.asarray(outline) * scale + (x, foot)) * self.n for outline, _ in pieces]
        every, margin = np.concatenate(corners), 2 + 3 * soft
        left, top = np.clip(every.min(axis=0) - margin, 0, self.n).astype(int).tolist()
        right, bottom = np.clip(every.max(axis=0) + margin, 0, self.n).astype(int).tolist()
        if left >= right or top >= bottom:  # nothing of it is inside
            return
        fills = [tuple((np.clip(colour, 0, 1) * 255).astype(int).tolist()) for _, colour in pieces]
        sheet = Image.new("RGBA", (3 * (right - left), 3 * (bottom - top)), (*fills[0], 0))
        pen = ImageDraw.Draw(sheet)
        for points, fill in zip(corners, fills, strict=True):
            pen.polygon(((points - (left, top)) * 3).ravel().tolist(), fill=fill)
        sheet = sheet.filter(ImageFilter.GaussianBlur(3 * soft)) if soft else sheet
        small = np.asarray(sheet.reduce(3), np.float32) / 255
        part = self.pixels[top:bottom, left:right]
        colours = mix(small[..., :3], self.haze, how.get("haze", 0.0) * self.care)
        part[:] = mix(part, colours, small[..., 3] * how.get("opacity", 1.0))

    def stand(self, places: Sequence[tuple[float, float, float, Thing]], haze: float = 0.0) -> None:
        """Draw things at foot, x and height, from the back to the front; a lack of care puts them anywhere."""
        rng = self.dice("places")
        kept = [place if rng.random() < 0.45 + self.care else (*rng.random(2), *place[2:]) for place in places]
        for foot, x, high, thing in sorted(kept):
            pieces, shadow = self.shape(thing), [(disc(-0.3 * self.side, 0.0, 1.0, 0.17), self.shade * 0.15)]
            if thing.kind == "boat":
                self.draw(pieces, x, foot, high * 0.7, flip=1, opacity=0.25 * self.care)
            elif thing.kind not in ("bird", "balloon"):
                half = 0.5 * high / max(1.0, DATA["bodies"].get(thing.kind, 1.0))
                self.draw(shadow, x, foot - 0.02 * high, half, soft=half * 0.1, opacity=0.7 * self.care)
            self.draw(pieces, x, foot, high, haze=haze)
            if thing.kind == "candle":
                away = np.hypot(self.x - x, self.y - foot + 1.1 * high)
                self.shine(COLOURS["lamp"], 0.5 * np.exp(-away / 0.06) + 0.14 * np.exp(-away / 0.3))

    def finished(self) -> Image.Image:
        """Return the image, with corners a little darker and with what a lack of care spoils."""
        flaws = 1 - self.care
        pixels = self.pixels * (1 - 0.42 * self.care * ((self.x - 0.5) ** 2 + (self.y - 0.5) ** 2))[..., None]
        pixels = np.clip(mix(pixels, pixels * pixels * (3 - 2 * pixels), 0.28 * self.care), 0, 1)
        image = Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))
        if not flaws:
            return image
        band = 255 / round(12 / flaws)
        pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(2.2 * flaws * self.n / 512)), np.float32)
        noisy = np.rint(pixels / band) * band + self.dice("flaws").normal(0, 24 * flaws**3, pixels.shape)
        held = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(held, "jpeg", quality=round(95 - 80 * flaws))
        return Image.open(held).convert("RGB")

    def shape(self, thing: Thing) -> list[Piece]:
        """Return the pieces of a thing in `painter.json`."""
        pieces, own = [], COLOURS[thing.colour or DATA["usual"].get(thing.kind, "white")]
        changed = {"glass": "lamp"} if self.scene.time in ("dusk", "night") else {}
        changed |= {"roof": "snow", "slate": "snow"} if "winter" in self.scene.weather else {}
        for entry in DATA["shapes"][thing.kind]:
            material, light, *numbers = entry.split()
            tone = own if material == "self" else COLOURS[changed.get(material, material)]
            values = np.array([float(n) for n in numbers]) / 100
            if light == "~":  # strips from side to side, which hang through like circles seen from above
                for a, b in pairwise(np.linspace(-1, 1, 18).tolist()):
                    half, facing = values[1::2], (a + b) / 2 * self.side
                    high = values[2::2] - 0.2 * half * (1 - facing**2) ** 0.5
                    left, right = (np.stack([values[0] + share * half, high], axis=1) for share in (a, b))
                    gloss = 0.3 * self.care * np.exp(-(((facing - 0.5) / 0.15) ** 2))
                    strip = np.concatenate([left, right[::-1]])
                    pieces.append((strip, self.lit(tone, 0.55 + 0.5 * self.care * facing) + gloss))
            elif light == "o":  # discs, smaller and lighter towards the light
                x, y, across, high = values
                for t in np.linspace(0, 0.96, 24).tolist():
                    ball = disc(x + 0.4 * t * across * self.side, y + 0.4 * t * high, across * (1 - t), high * (1 - t))
                    gloss = 3.0 * self.care * max(0.0, t - 0.8)
                    pieces.append((ball, self.lit(tone, 0.5 + self.care * (1.1 * t - 0.4)) + gloss))
            elif light == "=":
                pieces.append((disc(*values), tone))
            else:
                corners = values.reshape(-1, 2) * (self.side, 1)
                pieces.append((corners, tone if tone is COLOURS["lamp"] else self.lit(tone, float(light) / 100)))
        return pieces


def paint_sky(canvas: Canvas) -> None:
    """Paint everything above and behind the land."""
    scene, rng, side, horizon = canvas.scene, canvas.dice("sky"), canvas.side, canvas.horizon
    x, y, low = canvas.x, canvas.y, scene.time in ("dawn", "sunset")
    stops = np.stack([canvas.zenith, canvas.middle, canvas.low])
    line = [np.interp(y[:, 0] / horizon, [0, 0.6, 1], stops[:, n]) for n in range(3)]
    canvas.pixels[:] = np.stack(line, axis=1)[:, None]
    if scene.time == "night" and not canvas.grey:
        points = [disc(a, 1 - horizon * b, *(0.0004 + 0.0014 * c**5,) * 2, 6) for a, b, c in rng.random((400, 3))]
        canvas.draw([(star, COLOURS["snow"]) for star in points], opacity=0.4 + 0.5 * canvas.care)
    for number in range(3 if scene.find("aurora") else 0):
        above = 0.3 + 0.2 * number + 0.3 * (noise(rng, (1, canvas.n), (1, 3), 2) - 0.5) - y / horizon
        body = np.where(above > 0, np.exp(-above / 0.22), np.exp(above / 0.06)) * noise(rng, (1, canvas.n), (1, 24), 3)
        canvas.shine(mix(COLOURS["aurora"], COLOURS["violet"], np.clip(above * 2.2, 0, 1)), 0.9 * body)
    if scene.find("moon") or (low and not canvas.grey):
        canvas.sun = a, b = 0.5 + side * rng.uniform(0.1, 0.28), horizon * (0.8 if low else rng.uniform(0.25, 0.4))
        away, radius = np.hypot(x - a, y - b), rng.uniform(0.04, 0.055)
        canvas.shine(mix(canvas.lamp, canvas.low, 0.5), 0.6 * np.exp(-away / (0.22 if low else 0.13)))
        canvas.lay(canvas.lamp, (radius - away) * canvas.n + 0.5)
    if (scene.time != "night" or canvas.grey) and "fog" not in scene.weather:
        start = 0.39 if canvas.grey else 0.54 if scene.find("cloud") else 0.62
        density = canvas.plane("clouds", 3, 5, 1.7) + 0.5
        toward = np.roll(density, (5, -4 * side), axis=(0, 1))
        lit = np.clip(0.62 + (toward - density) * 5 * canvas.care - (density - start) * 0.8, 0, 1)
        body = mix(mix(canvas.middle, canvas.shade, 0.4), np.clip(mix(canvas.light, canvas.lamp, 0.5), 0, 1), lit)
        canvas.lay(body, step(start, start + 0.2, density) * 0.9 * (y < horizon))
    if scene.find("rainbow"):
        t = (np.hypot(x - 0.5 + 0.18 * side, y - horizon * 1.08) - 0.42) / 0.045
        stops = np.stack([COLOURS[name] for name in ("violet", "blue", "green", "yellow", "orange", "red")])
        bands = np.stack([np.interp(t, np.linspace(0, 1, 6), stops[:, n]) for n in range(3)], axis=-1)
        canvas.lay(bands, 0.5 * step(-0.15, 0.15, t) * step(1.15, 0.85, t) * (y < horizon))
    for soft in (0.02, 0.0) if scene.find("lightning") else ():
        canvas.draw(canvas.shape(Thing("lightning")), 0.5 - 0.2 * side, horizon, horizon, soft=soft)


def outline(canvas: Canvas, part: str, count: int, power: float) -> Any:
    """Return heights (n,) with that many summits, 0 to 1; power 1 makes them pointed, 2 round."""
    rng = canvas.dice(part)
    middle = (np.arange(count) + rng.uniform(0.3, 0.7, count)) / count
    bumps = rng.uniform(0.7, 1, (count, 1)) * np.exp(-(np.abs((canvas.x - middle[:, None]) * count / 0.6) ** power))
    rough = 0.34 / power**2
    return bumps.max(axis=0) * (1 - rough) + noise(rng, (1, canvas.n), (1, 9), 6)[0] * rough


def ridge(canvas: Canvas, part: str, heights: Array, tone: Array, haze: float, *, snow: float = 0.0) -> None:
    """Paint land with heights (n,) above the horizon; its upper share `snow` is white."""
    rng, n, care = canvas.dice(part), canvas.n, canvas.care
    top, bottom = max(0, int((canvas.horizon - heights.max()) * n) - 1), int(canvas.horizon * n) + 2
    depth = (canvas.y - canvas.horizon + heights)[top:bottom]
    coarse, fine = (noise(rng, depth.shape, cells, 4) - 0.5 for cells in ((2, 6), (7, 24)))
    bent = np.clip(np.arange(n) + coarse * (0.03 + 0.8 * depth) * n, 0, n - 1).astype(int)
    slope = np.tanh(np.gradient(heights * n) * -1.3 * canvas.side)[bent]
    light = np.clip(0.5 + care * (0.46 * slope + fine * (0.7 + 0.6 * snow)), 0, 1)
    white = step(-0.05, 0.06, snow - depth / heights.max() + (coarse + fine) * 0.5 * care) * step(0.2, 0.5, light)
    fog = np.clip(haze + 0.3 * np.linspace(0, 1, len(depth))[:, None] ** 2, 0, 1) * care * np.ones((1, n))
    body = canvas.lit(mix(tone, COLOURS["snow"], white * (snow > 0)), light)
    canvas.lay(mix(body, canvas.haze, fog), depth * n + 0.5, top)


def paint_water(canvas: Canvas, tone: Array, rough: float) -> None:
    """Paint water below the horizon: what stands behind it upside down, broken by waves, and glitter."""
    swell, ripple, fine = (canvas.plane("water", *how) for how in ((5, 3, 2.6), (20, 3, 3.5), (40, 2, 2.2)))
    waves, n, care = (0.7 * swell + 0.6 * ripple) * (0.25 + 0.75 * canvas.care), canvas.n, canvas.care
    below = np.clip(canvas.y - canvas.horizon, 0, 1)
    t, reach = below / (1 - canvas.horizon), (0.006 + 0.35 * below) * (0.35 + rough)
    rows = np.clip((canvas.horizon - 0.92 * below - np.abs(waves) * reach * 1.6) * n, 0, n - 1).astype(int)
    columns = np.clip((canvas.x + waves * reach * 0.7) * n, 0, n - 1).astype(int)
    mirrored = mix(np.broadcast_to(canvas.low, (n, n, 3)), canvas.pixels[rows, columns] * 0.9, care)
    own = np.clip(0.24 + 0.42 * t * (0.5 + rough) + 0.5 * waves, 0.05, 0.92)
    bright = (1 + waves * (0.35 + 0.9 * rough)) * (1 - 0.18 * t * care)
    crests = 0.8 * care * (rough > 0.7) * step(0.02, 0.22, fine) * step(0.1, 0.3, swell)
    a, b = (int(v * n) for v in canvas.sun)
    glitter = (b > 0 and canvas.pixels[b, a].mean() > 0.6 * canvas.lamp.mean()) * 0.8
    water = mix(mix(mirrored, canvas.lit(tone, 0.6), own) * bright[..., None], canvas.light, crests)
    canvas.lay(water, np.ones((n, n)) * (below > 0))
    near = np.exp(-(((canvas.x - canvas.sun[0]) / (0.025 + 0.085 * t)) ** 2)) * (below > 0) * glitter
    canvas.shine(canvas.lamp, near * (0.2 + 0.95 * step(0.04, 0.2, waves * 0.5 + fine * 0.8)))


def paint_ground(canvas: Canvas, tone: Array, edge: Array | float) -> None:
    """Paint grass, snow or sand, with texture, below the edge (n,)."""
    rough = 1.2 * canvas.plane("ground", 4, 4, 1.6) + 0.9 * canvas.plane("turf", 26, 3, 1.3)
    texture = np.clip(0.5 + canvas.care * rough, 0, 1)
    t = np.clip((canvas.y - canvas.horizon) / (1 - canvas.horizon), 0, 1) * np.ones_like(texture)
    body = canvas.lit(mix(tone * 0.72, tone * 1.1, texture), 0.4 + 0.6 * texture)
    body = mix(body, body * 0.7, canvas.care * t**1.5)
    canvas.lay(mix(body, canvas.haze, 0.5 * canvas.care * np.exp(-t / 0.12)), (canvas.y - edge) * canvas.n)


def paint_landscape(canvas: Canvas) -> None:
    """Paint from the sky to the flowers."""
    scene, find, n, rng = canvas.scene, canvas.scene.find, canvas.n, canvas.dice("landscape")
    sea, dry = not find("lake") and bool(find(*DATA["coast"])), not find("lake", *DATA["coast"])
    white = find("snow") or scene.weather & {"winter", "snowfall"}
    season = "snow" if white else "straw" if "autumn" in scene.weather else "grass"
    grass = COLOURS["dune" if find("desert") else season]
    canvas.horizon = 0.6 if find("mountain", "forest", "balloon", "aurora") else 0.54
    paint_sky(canvas)
    ranges = 1 + round(3 * canvas.care)
    for number in range(0 if sea and not find("mountain", "city") else ranges):
        near = number / max(ranges - 1, 1)
        part, haze = f"range {number}", 0.65 * (1 - near) + 0.05
        heights = outline(canvas, part, 3 + number % 3, 1.0 if find("mountain") else 2.0)
        if find("mountain"):
            ridge(canvas, part, (0.36 - 0.26 * near) * heights, COLOURS["rock"], haze, snow=0.5)
        elif row := find("forest", "city"):
            many, high = (60, 0.17 + 0.12 * near) if row.kind == "forest" else (14, 0.4 - 0.22 * near)
            spots = rng.uniform((0, 0.5), 1, (many, 2)) * (1, high)
            pieces = [(c * h + (x, 0), tone) for x, h in spots for c, tone in canvas.shape(row)]
            canvas.draw(pieces, 0, canvas.horizon + 0.01, haze=haze)
        else:
            ridge(canvas, part, (0.2 - 0.14 * near) * heights, mix(scene.colour("hill"), grass, 0.6), haze)
    if island := find("island"):
        hump = np.clip(outline(canvas, "island", island.number, 4.0) - 0.35, 0, 1)
        ridge(canvas, "island", 0.16 * hump, scene.colour("island"), 0.25)
    mound = np.zeros(n)
    if find(*DATA["built"]) and (sea or find("hill")):
        mound = 0.1 * step(0.25, 0.7, canvas.x[0][:: canvas.side]) + 0.02 * outline(canvas, "mound", 6, 2.0)
        ridge(canvas, "mound", mound, COLOURS["earth"] if sea else grass, 0.1)
    bank = canvas.horizon
    if not dry:
        paint_water(canvas, scene.colour("sea" if sea else "lake"), 1.0 if "storm" in scene.weather else 0.3)
        bank = 0.82 if find("beach", "pine", "tree", "palm") else 0.9 if not sea else 2.0
    edge = bank + (not dry) * 0.06 * outline(canvas, "bank", 3, 2.0)
    paint_ground(canvas, COLOURS["sand"] if find("beach") else grass, edge)
    if find(*DATA["blooms"]):
        paint_flowers(canvas)
    paint_things(canvas, mound, bank)
    veil = np.exp(-(((canvas.y - canvas.horizon) / 0.22) ** 2)) * (0.3 + 0.5 * noise(rng, (n, n), (5, 2), 3))
    canvas.lay(canvas.haze, veil * ("fog" in scene.weather))
    falling = rng.random((round(150 + 350 * canvas.care), 3)).tolist()
    if scene.weather & {"rain", "storm"}:
        drops = [[(x, y), (x + 0.001, y), (x - 0.006, y - 0.02 - 0.03 * z)] for x, y, z in falling]
        canvas.draw([(drop, COLOURS["stone"]) for drop in drops], opacity=0.3)
    if "snowfall" in scene.weather:
        flakes = [disc(x, y, 0.001 + 0.004 * z**3, 0.001 + 0.004 * z**3, 8) for x, y, z in falling]
        canvas.draw([(flake, COLOURS["snow"]) for flake in flakes])


def paint_flowers(canvas: Canvas) -> None:
    """Paint flowers over the ground, small at the back."""
    rng, pieces = canvas.dice("flowers"), []
    kinds = [thing for thing in canvas.scene.things if thing.kind in DATA["blooms"]]
    for t in np.sort(rng.random(round(400 + 1400 * canvas.care)) ** 0.75).tolist():
        thing, x, r = kinds[int(rng.integers(len(kinds)))], rng.random(), 0.0015 + 0.018 * t**1.7
        tone = mix(COLOURS[thing.colour or DATA["usual"][thing.kind]], canvas.haze, 0.35 * (1 - t) ** 3)
        across, high = (0.5 * r, 2 * r) if thing.kind == "lavender" else (r, 0.75 * r)
        y = (1 - canvas.horizon) * (1 - t)
        pieces.append((disc(x, y, across, high, 10), canvas.lit(tone, rng.uniform(0.5, 1))))
        pieces.append((disc(x, y, 0.3 * across, 0.3 * across, 8), canvas.lit(COLOURS["iron"], 0.8)))
    canvas.draw(pieces)


def paint_things(canvas: Canvas, mound: Array, bank: float) -> None:
    """Paint what stands, swims and flies, from the back to the front; a lack of care puts it anywhere."""
    places = []
    for number, thing in enumerate(t for t in canvas.scene.things if t.kind in DATA["heights"]):
        rng, count = canvas.dice(f"things {number}"), thing.number
        across = 0.06 + 0.88 * (np.arange(count) + rng.uniform(0.34, 0.66, count)) / count
        if count == 1:
            across = np.array([0.5 + 0.22 * canvas.side * (-1 if thing.kind == "boat" else 1)])
        for x, d in zip(across.tolist(), (0.2 + 0.7 * rng.random(count)).tolist(), strict=True):
            foot, scale = bank + (1 - bank) * (0.3 + 0.35 * d), 0.62 + 0.85 * d
            if thing.kind in ("bird", "balloon"):
                foot, scale = canvas.horizon * (0.35 + 0.45 * d), 0.7 + 0.5 * d
            elif thing.kind == "boat":
                foot = canvas.horizon + (min(bank, 0.97) - canvas.horizon) * (0.12 + 0.6 * d**1.3)
                scale = 0.35 + 1.5 * (foot - canvas.horizon) / (1 - canvas.horizon)
            elif mound.any() and thing.kind in DATA["built"]:
                x = 0.5 + canvas.side * (0.12 + 0.3 * x) if count > 1 else x
                foot, scale = canvas.horizon - mound[int(x * canvas.n)] + 0.01, 0.85
            places.append((foot, x, DATA["heights"][thing.kind] * scale / max(1.0, count / 2.4) ** 0.5, thing))
    canvas.stand(places, haze=0.15)


def paint_still_life(canvas: Canvas) -> None:
    """Paint a wall, a table, and what stands on it."""
    scene, rng, care, n = canvas.scene, canvas.dice("still life"), canvas.care, canvas.n
    edge = canvas.horizon = 0.62
    spot = np.exp(-(((canvas.x - 0.5 - 0.28 * canvas.side) / 0.55) ** 2 + ((canvas.y / edge - 0.35) / 0.8) ** 2))
    light = 0.62 + care * (0.6 * spot - 0.5 + 0.22 * noise(rng, (n, n), (3, 3), 5))
    canvas.lay(canvas.lit(scene.colour("wall"), np.clip(light, 0, 1)), np.ones((n, n)))
    below = np.clip((canvas.y - edge) / (1 - edge), 0, 1)
    light = 0.55 + care * (0.28 * (canvas.x - 0.5) * canvas.side + 0.2 * np.sin(np.pi * below))
    grain = 1 + 0.6 * care * (noise(rng, (n, n), (60, 1), 4) - 0.5) - 0.5 * care * np.exp(-below / 0.02)
    canvas.lay(canvas.lit(scene.colour("table") * grain[..., None], light), (canvas.y - edge) * n + 0.5)
    bodies = [thing for thing in scene.things if thing.kind in DATA["bodies"] for _ in range(thing.number)]
    places = []
    for thing, place in zip(bodies, rng.permutation(len(bodies)).tolist(), strict=True):
        x = 0.1 + 0.8 * (place + rng.uniform(0.4, 0.6)) / len(bodies)
        back = 0.3 if DATA["bodies"][thing.kind] > 1.3 else 0.42
        foot = edge + (1 - edge) * (back + (0.3 * (place % 2) if back > 0.3 else 0) + rng.uniform(-0.04, 0.04))
        high = min(0.3, 0.9 / max(len(bodies), 2) ** 0.8) * DATA["bodies"][thing.kind] * (0.6 + 0.4 * foot)
        places.append((foot, x, high, thing))
    canvas.stand(places)
