"""Open and check image files.

Where the official code crashes or guesses, this module decides:

- transparency is flattened on white (the official code feeds four channels to a network of three, or drops alpha);
- an EXIF orientation is applied, because people judged the upright picture;
- 16-bit greyscale is scaled by 1/257 (Pillow clips it to white).

Colour profiles are ignored, and an animation is its first frame, both as in the official code.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hpskit.errors import ImageError, listed
from hpskit.files import explain

__all__ = ["BACKGROUND", "Encoded", "check_file", "check_files", "check_head", "open_image", "thumbnail"]

BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white, as on the pages on which people see images."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_LARGEST = 500_000_000
"""Bytes of an image file: one is read whole, and several at once. The largest real ones have a tenth of that."""
_AGAIN = "make or download it again"


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
            if (size := path.stat().st_size) > _LARGEST:
                found, cure = f"has {size / 1e9:,.1f} GB", "give the image itself"
                raise ImageError(path, found, expected=f"at most {_LARGEST / 1e9:g} GB", cure=cure)
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
    if str(path).startswith(("http:/", "https:/")):
        raise ImageError(path, "is an address", cure="download the image and give the file")
    try:
        status = path.stat()
    except OSError as error:
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
            problems.append(error)
    if problems:
        first, *others = problems
        found = listed([first.found, *(f"{error.place}: {error.found}" for error in others)], between="; ")
        raise ImageError(first.place, found, expected=first.expected, cure=first.cure)


def check_head(path: Path) -> None:
    """See that a file begins like an image, without decoding it; see `check_file`.

    Raises:
        ImageError: it does not.
    """
    check_file(path)
    try:
        Image.open(path).close()
    except Exception:  # as in `_upright`: formats raise what they like while their headers are read
        open_image(path)  # which says what is wrong
        raise


def open_image(source: str | os.PathLike[str] | Encoded | Image.Image, *, draft: int | None = None) -> Image.Image:
    """Open, decode and check one image.

    Args:
        source: path of an image file, its bytes, or a PIL image (left as it is).
        draft: the shortest side in pixels that is wanted: a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if
            both sides stay at least as long, which takes a fraction of the time. Other files are decoded whole.

    Returns:
        The first frame, upright, mode RGB, transparency flattened on `BACKGROUND`.

    Raises:
        ImageError: missing, empty, truncated, too large, not an image, or of a mode without a defined range.
    """
    if isinstance(source, Image.Image):
        return _upright(source, "PIL image")
    encoded = source if isinstance(source, Encoded) else Encoded.read(Path(source))
    place = encoded.place
    try:
        with Image.open(io.BytesIO(encoded.data)) as image:
            if draft is not None:
                image.draft(None, (draft, draft))
            return _upright(image, place)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            place, f"is not an image ({_beginning(encoded.data)})", expected="JPEG, PNG, WebP, …"
        ) from error
    except Image.DecompressionBombError as error:
        found = f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which may be a decompression bomb"
        raise ImageError(place, found, cure="scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except Exception as error:  # as in `_upright`
        reason = explain(error) if isinstance(error, OSError) else str(error)
        raise ImageError(place, f"cannot be decoded ({reason})", cure=_AGAIN) from error


def _upright(image: Image.Image, place: str) -> Image.Image:
    """Decode an image, turn it as EXIF says, and make it RGB."""
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), place)
    except ImageError:
        raise
    # Pillow's decoders raise whatever their format tempts them to (OSError, SyntaxError, struct.error, IndexError,
    # zlib.error, MemoryError …): at this one place every exception means that the file is broken.
    except Exception as error:
        raise ImageError(place, f"cannot be decoded ({str(error) or type(error).__name__})", cure=_AGAIN) from error


def _to_rgb(image: Image.Image, place: str) -> Image.Image:
    if image.width < 1 or image.height < 1:
        raise ImageError(place, f"is {image.width}x{image.height} pixels", expected="at least 1x1")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BIT:
        grey = np.asarray(image).astype(np.uint32)
        if "transparency" in image.info:  # one grey level that is not there
            grey = np.where(grey == image.info["transparency"], 0xFFFF, grey)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        found = f"has pixels of mode {image.mode!r}, which have no defined range"
        raise ImageError(place, found, cure="convert it to 8 or 16 bits per channel")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _beginning(data: bytes) -> str:
    head = data[:64]
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return f"it starts like a web page: {head[:24]!r}"
    return f"it starts with {head[:16]!r}"


def thumbnail(image: Path | Image.Image, *, side: int = 220) -> str:
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
