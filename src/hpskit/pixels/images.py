"""Open and check images.

An image is what a browser shows of it on a white page: the first frame, turned upright by EXIF, transparency flattened.
Colour profiles and gamma are not applied, as in the official code. docs/scoring.md says more.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from hpskit.errors import ImageError, listed
from hpskit.files import explain
from hpskit.pixels.containers import STRIPPED, Container, exif_orientation

BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white, as on the pages on which people see images."""
LARGEST = 2**27
"""Pixels of an image, and of all that are decoded at a time: 0.5 GB in mode RGB, two or three times that on the way."""
_LONGEST_SIDE = 65_535
LARGEST_FILE = 500_000_000
"""Bytes of an image file: one is read whole, and several at once. The largest real ones have a tenth of that."""
_STRIP = 2**20  # pixels that are converted at a time
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIF", "JXL")
"""What is opened, by Pillow's names; HEIF and JXL where a plug-in has taught them to Pillow."""
_SHORT_HEADS = ("JPEG", "PNG", "GIF", "BMP", "PPM")  # of which Pillow reads no more to open them
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes pixels upright, by the number that EXIF gives to how they are stored."""
_ADDRESS = re.compile(r"(?:^|/)([a-z][a-z0-9+.-]+):/(?!/)")
_AGAIN = "make or download it again, or save it as PNG if a browser shows it"


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image file that was read once: its pixels and its hash come from the same bytes, whatever happens to it."""

    data: bytes
    place: str
    """How errors call it: its path, or its name in a data set."""

    @classmethod
    def read(cls, path: Path) -> Encoded:
        """Read a file.

        Raises:
            ImageError: it is missing, empty, too large or cannot be read.
        """
        check_file(path)
        try:
            if (size := path.stat().st_size) > LARGEST_FILE:
                found, cure = f"has {size / 1e9:,.1f} GB", "give the image itself"
                raise ImageError(path, found, expected=f"at most {LARGEST_FILE / 1e9:g} GB", cure=cure)
            return cls(path.read_bytes(), str(path))
        except OSError as error:
            raise ImageError(path, f"cannot be read ({explain(error)})", cure="check the path") from error
        except MemoryError as error:
            raise ImageError(path, "does not fit into memory", cure="free some, or give a smaller file") from error

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, 64 hex digits."""
        return hashlib.sha256(self.data).hexdigest()


def check_file(path: Path) -> None:
    """See that an image file is there, is a file, is readable and not empty, without decoding it.

    Raises:
        ImageError: it is not.
    """
    try:
        status = path.stat()
    except OSError as error:
        if found := _ADDRESS.search(str(path)):
            address = f"{found[1]}:/{str(path)[found.end(1) + 1 :]}"  # of a path, one of its slashes is lost
            raise ImageError(address, "is an address", cure="download the image and give the file") from error
        raise ImageError(path, f"cannot be opened ({explain(error)})", cure="check the path") from error
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise ImageError(repr(str(path)), f"is not the name of a file ({error})", cure="check the path") from error
    if path.is_dir():
        raise ImageError(path, "is a directory", expected="an image file")
    if status.st_size == 0:
        raise ImageError(path, "is empty (0 bytes)", expected="an image")
    if not os.access(path, os.R_OK):
        raise ImageError(path, "cannot be read (Permission denied)", cure="change its permissions")


def check_files(paths: Sequence[Path]) -> None:
    """Check several files as `check_file` does; the error names all that cannot be used, not only the first.

    Raises:
        ImageError: see `check_file`.
    """
    problems: list[ImageError] = []
    for path in paths:
        try:
            check_file(path)
        except ImageError as error:
            problems.append(error.alone())
    if problems:
        first, *others = problems
        found = listed([first.found, *(f"{error.place}: {error.found}" for error in others)], between="; ")
        raise ImageError(first.place, found, expected=first.expected, cure=first.cure)


def check_head(image: Path | Encoded) -> tuple[int, int]:
    """See that a file begins like an image, without decoding it; see `check_file`. Returns width and height as stored.

    Raises:
        ImageError: it does not.
    """
    if isinstance(image, Path):
        check_file(image)
        try:
            with image.open("rb") as file:
                name = _format(file.read(64))
                file.seek(0)
                if name in _SHORT_HEADS:
                    return _checked(Image.OPEN[name][0](file, "").size)
        except Exception:  # noqa: BLE001, S110  # Pillow raises what it likes, and for texts and profiles too
            pass
        image = Encoded.read(image)
    with _named(image.place):
        found, container = _header(image.data, None)
        return container.canvas or found.size


def open_image(source: str | os.PathLike[str] | Encoded | Image.Image, *, draft: int | None = None) -> Image.Image:
    """Open, decode and check one image.

    Args:
        source: path of an image file, its bytes, or a PIL image, which is left as it is. Of a PIL image the pixels
            count that it holds, turned by its EXIF data; `info["transparency"]`, which Pillow leaves behind, counts in
            mode P alone.
        draft: the shortest side in pixels that is wanted: a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if
            both sides stay at least as long, which takes a fraction of the time. Other files are decoded whole.

    Returns:
        The first frame, upright, mode RGB, transparency flattened on `BACKGROUND`.

    Raises:
        ImageError: missing, empty, truncated, too large, not an image, or of a mode without a defined range.
    """
    with opened(source, draft=draft) as image:
        return image


@contextmanager
def opened(
    source: str | os.PathLike[str] | Encoded | Image.Image, *, draft: int | None = None
) -> Iterator[Image.Image]:
    """Open an image as `open_image` does, and keep its share of the memory for images until the block ends.

    All threads together have room for `LARGEST` pixels; who wants more waits.
    """
    if isinstance(source, Image.Image):
        place, size, layout, decode = "PIL image", source.size, "", partial(_of_object, source)
    else:
        encoded = source if isinstance(source, Encoded) else Encoded.read(Path(source))
        with _named(encoded.place):
            image, container = _header(encoded.data, draft)
        place, size, layout = encoded.place, container.canvas or image.size, container.layout
        decode = partial(_of_file, image, container)
        del encoded, image, container
    with _named(place):
        _checked(size)
    with _ROOM.kept(size):
        with _named(place, layout):
            pixels = decode()
        del decode  # and the image in the mode in which it was stored
        try:
            yield pixels
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "allocate memory" in str(error):  # as torch says it
                raise ImageError(place, "does not fit into memory", cure="free some, or scale it down") from error
            raise


@contextmanager
def _named(place: str, layout: str = "") -> Iterator[None]:
    """Turn what Pillow raises into an error that says which image and why."""
    try:
        yield
    except ImageError as error:
        raise (error if error.place else error.within(place)) from error.__cause__
    except MemoryError as error:
        raise ImageError(place, "does not fit into memory", cure="free some, or scale it down") from error
    # Pillow's decoders raise whatever their format tempts them to (OSError, SyntaxError, struct.error, IndexError,
    # zlib.error …): at this one place every exception means that the file is broken.
    except Exception as error:
        reason = explain(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        found = f"cannot be decoded ({reason}{layout and f'; {layout}'})"
        raise ImageError(place, found, cure=_AGAIN) from error


class _Room:
    """Pixels that may be decoded at a time."""

    def __init__(self) -> None:
        self._free, self._changed = LARGEST, threading.Condition()

    @contextmanager
    def kept(self, size: tuple[int, int]) -> Iterator[None]:
        """Wait for room for an image, and keep it."""
        pixels = size[0] * size[1]
        with self._changed:
            self._changed.wait_for(lambda: pixels <= self._free)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_ROOM = _Room()
_LOADING = threading.Lock()
"""Pillow decodes at first use, and several threads may have been given the same image."""


class _Whole(io.BytesIO):
    """A file whose end is an error: Pillow makes up what is cut off while LOAD_TRUNCATED_IMAGES is True."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as usual."""
        found = super().read(size)
        if size is not None and size > 0 and not found:
            raise OSError("it is cut off")
        return found


def _format(head: bytes) -> str:
    """Return Pillow's name of the format of a file that begins so. No other is opened, so no program is started."""
    Image.init()
    for name in _FORMATS:
        if name in Image.OPEN and (accepts := Image.OPEN[name][1]) is not None and accepts(head[:16]) is True:
            return name
    page = head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg"))
    found = f"it starts like a web page: {head[:24]!r}" if page else f"it starts with {head[:16]!r}"
    expected = "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or PNM"
    raise ImageError("", f"is not an image ({found})", expected=expected, cure="save it as PNG if it is one")


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    """Return a size that is not too large."""
    width, height = size
    if width * height > LARGEST or max(size) > _LONGEST_SIDE or min(size) < 1:
        expected = f"1 to {LARGEST:,} pixels, at most {_LONGEST_SIDE:,} a side"
        raise ImageError("", f"is {width}x{height} pixels", expected=expected, cure="scale it down")
    return size


def _header(data: bytes, draft: int | None) -> tuple[ImageFile.ImageFile, Container]:
    """Open a file up to its pixels."""
    name = _format(data[:64])
    container = STRIPPED[name](data) if name in STRIPPED else Container(data=data)
    _checked(container.canvas or (1, 1))
    file = io.BytesIO(container.data) if name == "PPM" else _Whole(container.data)  # Pillow reads past the end of a PPM
    with _named("", container.layout):
        image = Image.OPEN[name][0](file, "")
    if draft is not None:
        image.draft(None, (draft, draft))
    elif image.width * image.height > LARGEST and not container.layout:
        scale = next((n for n in (2, 4) if image.width * image.height <= n * n * LARGEST), 8)
        image.draft(None, (image.width // scale, image.height // scale))
    _checked(image.size)
    return image, container


def _of_object(image: Image.Image) -> Image.Image:
    waiting = isinstance(image, ImageFile.StubImageFile) or getattr(image, "tile", None)
    if waiting and image.format not in (*_FORMATS, "MPO"):
        raise ImageError("", f"is {image.format} and not decoded yet", cure="call load() on it if you trust the file")
    with _LOADING:
        image.load()
    turned = exif_orientation(_exif(image)) if image.format != "WEBP" else 1
    return _upright(in_strips(image, partial(_to_rgb, keyed=image.mode == "P")), turned)


def _exif(image: Image.Image) -> bytes:
    exif = image.info.get("exif")
    return exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else b""


def _of_file(image: ImageFile.ImageFile, container: Container) -> Image.Image:
    _, box, _, coding = image.tile[0] if image.tile else (None,) * 4
    found: Image.Image = image
    canvas, place, orientation = container.canvas or image.size, container.place, container.orientation
    image.load()
    if coding == "RGB;16B" and "transparency" in image.info:
        _paint_key(image, container)
    if image.format == "GIF" and box:
        canvas, place, found = image.size, box[:2], image.crop(box)
    elif image.format == "PPM" and image.mode == "I":
        found = image.convert("I;16")
    elif image.format not in STRIPPED:
        orientation = exif_orientation(_exif(image))
    pixels = in_strips(found, partial(_to_rgb, keyed=True, levels=container.levels))
    if image.format in ("PNG", "GIF") and canvas != pixels.size:
        frame, pixels = pixels, Image.new("RGB", canvas, BACKGROUND)
        pixels.paste(frame, place)
    return _upright(pixels, orientation)


def _paint_key(image: Image.Image, container: Container) -> None:
    """Make white what is transparent in a PNG of 16 bits, of which Pillow compares the upper half alone."""
    low = Image.OPEN["PNG"][0](io.BytesIO(container.data), "")
    low.tile = [low.tile[0]._replace(args="RGB;16L")]
    low.load()
    halves, key = (np.asarray(image), np.asarray(low)), image.info.pop("transparency")
    same = [(halves[0][..., n] == key[n] >> 8) & (halves[1][..., n] == key[n] & 0xFF) for n in range(3)]
    image.paste(BACKGROUND, mask=Image.fromarray(np.logical_and.reduce(same)))


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def in_strips(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Make an image RGB by a change of its pixels, a strip at a time, which takes little memory beside the result."""
    step = max(1, _STRIP // image.width)
    if step >= image.height:
        return change(image)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        result.paste(change(strip), (0, top))
    return result


def _to_rgb(image: Image.Image, *, keyed: bool, levels: tuple[int, int] = (0, 0xFFFF)) -> Image.Image:
    """Convert pixels; `keyed` is whether `info["transparency"]` speaks of them."""
    key = image.info.get("transparency") if keyed else None
    if image.mode in _SIXTEEN_BIT:
        black, white = levels
        shades = ((np.arange(0x10000) - black) * (255 / (white - black))).round().clip(0, 255).astype(np.uint8)
        if isinstance(key, int):  # one level that is not there
            shades[key] = 255
        return Image.fromarray(shades[np.asarray(image)]).convert("RGB")
    if image.mode in ("I", "F"):
        found = f"has pixels of mode {image.mode!r}, which have no defined range"
        raise ImageError("", found, cure="convert it to 8 or 16 bits per channel")
    if image.mode == "La":
        image = image.convert("LA")
    if (
        image.mode in ("LA", "PA", "RGBA", "RGBa")
        or key is not None
        or (image.mode == "P" and image.has_transparency_data)
    ):
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def thumbnail(image: Path | Encoded | Image.Image, *, side: int = 220) -> str:
    """Make a `data:` address of a small JPEG.

    Args:
        image: a file or an image.
        side: pixels of the longer side at most.

    Raises:
        ImageError: it cannot be decoded.
    """
    opened = open_image(image)
    opened.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    opened.save(data, format="JPEG", quality=78, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
