"""How well the painter paints: everything that can be set, and three named ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from hpskit.errors import InputError

__all__ = ["SETTINGS", "PainterSettings"]

_RANGES: dict[str, tuple[float, float]] = {
    "size": (64, 1024),
    "layers": (1, 6),
    "detail": (0, 1),
    "light": (0, 1),
    "harmony": (0, 1),
    "placement": (0, 1),
    "following": (0, 1),
    "saturation": (0, 2),
    "blur": (0, 16),
    "noise": (0, 1),
    "levels": (2, 256),
    "jpeg": (1, 100),
}
_WHOLE = {"size", "layers", "levels", "jpeg"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PainterSettings:
    """What the painter takes care of, and what it does badly. The defaults are its best."""

    size: int = 512
    """Width and height of the image in pixels, 64 to 1024."""
    layers: int = 4
    """How many ranges of mountains, hills or trees stand one behind the other, 1 to 6."""
    detail: float = 1.0
    """Texture, leaves, windows, waves: 0 (flat colour) to 1."""
    light: float = 1.0
    """Glow, haze of the distance, shadows, reflections, vignette: 0 (none) to 1."""
    harmony: float = 1.0
    """1: the colours belong together; 0: each has gone its own way."""
    placement: float = 1.0
    """1: things stand where they belong; 0: anywhere, askew, and the horizon too."""
    following: float = 1.0
    """Share of the prompt that is heeded, 0 to 1: below it, things are left out, miscounted and given other colours."""
    saturation: float = 1.0
    """Strength of the colours, 0 (grey) to 2; 1 leaves them alone."""
    blur: float = 0.0
    """Radius of a Gaussian blur, 0 to 16 pixels of an image of 512."""
    noise: float = 0.0
    """Standard deviation of noise in every pixel, 0 to 1 of the range of a channel."""
    levels: int = 256
    """Steps of each colour channel, 2 to 256; few of them make bands."""
    jpeg: int | None = None
    """Compress as JPEG of this quality, 1 to 100, and decode again; None does not."""

    def __post_init__(self) -> None:
        """See that every value is possible.

        Raises:
            InputError: one is not.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if name == "jpeg" and value is None:
                continue
            kinds = int if name in _WHOLE else int | float
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                kind = "a whole number" if name in _WHOLE else "a number"
                raise InputError(f"painter: {name} is {value!r}, expected {kind} from {low} to {high}")

    def to_json(self) -> dict[str, Any]:
        """All values, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> PainterSettings:
        """Settings from names and values; what is not named has its default. `place` is named in errors.

        Raises:
            InputError: a name is unknown or a value impossible.
        """
        known = [f.name for f in fields(cls)]
        for name in value:
            if name not in known:
                raise InputError(f"{place}: setting {name!r} is unknown, expected one of {', '.join(known)}")
        try:
            return cls(**value)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error


SETTINGS: Mapping[str, PainterSettings] = MappingProxyType(
    {
        "fine": PainterSettings(),
        "plain": PainterSettings(
            layers=2, detail=0.3, light=0.4, harmony=0.8, following=0.85, saturation=0.9, blur=0.7, levels=48
        ),
        "poor": PainterSettings(
            layers=1,
            detail=0.1,
            light=0.0,
            harmony=0.1,
            placement=0.25,
            following=0.4,
            saturation=1.3,
            blur=1.5,
            noise=0.08,
            levels=10,
            jpeg=25,
        ),
    }
)
"""Three ways to paint, best first: good by construction, middling, and bad in every respect."""
