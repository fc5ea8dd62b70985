"""Open and check an image; letterbox, resize and normalise it, by one code for files, PIL images and tensors.

The default is the official transform (`image_transform` in the open_clip of the HPSv2 repository, with
`resize_longest_max`): RGB, float in [0, 1], bicubic resizing *of the tensor* so that the longest side fits, black
padding, normalisation. Where that transform crashes or guesses, this one decides and says so:

- transparency is flattened on white (the official code feeds four channels to a network of three, or drops alpha);
- an EXIF orientation is applied, because people judged the upright picture;
- 16-bit greyscale is scaled by 1/257 (Pillow clips it to white);
- no side becomes shorter than one pixel, and an image whose longest side fits already is padded all the same.

Colour profiles are ignored, and an animation is its first frame, both as in the official code.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hpskit.errors import ImageError, InputError
from hpskit.files import explain

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BACKGROUND", "CLIP_MEAN", "CLIP_STD", "Preprocessing", "Resize", "check_file", "open_image", "to_tensor"]

BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white, as on the pages on which people see images."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Resize = Literal["letterbox", "crop", "squash"]

_RANGE_TOLERANCE = 1e-3
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How an image becomes the input of a network."""

    size: int = 224
    """Height and width of the input in pixels."""
    resize: Resize = "letterbox"
    """`letterbox`: longest side to `size`, centred on zeros; `crop`: shortest side to `size`, centre kept;
    `squash`: both sides to `size`, proportions lost."""
    antialias: bool = True
    """True is what the official code does with torchvision >= 0.17; False is what it did before, when the tables
    of the paper and of v2.1 were computed."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"preprocessing: size is {self.size}, expected at least 1 pixel")
        if self.resize not in get_args(Resize):
            raise InputError(f"preprocessing: resize is {self.resize!r}, expected one of {', '.join(get_args(Resize))}")

    @property
    def name(self) -> str:
        """One word for records, for example `letterbox-224-bicubic-antialias`."""
        filtering = "antialias" if self.antialias else "no_antialias"
        norm = "" if (self.mean, self.std) == (CLIP_MEAN, CLIP_STD) else f"-mean{self.mean[0]:g}-std{self.std[0]:g}"
        return f"{self.resize}-{self.size}-bicubic-{filtering}{norm}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """(..., 3, H, W) float in [0, 1] -> (..., 3, size, size), normalised. Keeps gradients and device."""
        import torch
        from torch.nn.functional import pad

        batch = pixels if pixels.ndim == 4 else pixels[None]
        height, width = batch.shape[-2:]
        new_height, new_width = self._resized(height, width)
        if (new_height, new_width) != (height, width):
            batch = torch.nn.functional.interpolate(
                batch, (new_height, new_width), mode="bicubic", align_corners=False, antialias=self.antialias
            )
        top, left = (self.size - new_height) // 2, (self.size - new_width) // 2
        if self.resize == "crop":  # torchvision's CenterCrop rounds half to even
            top, left = (round((n - self.size) / 2) for n in (new_height, new_width))
            batch = batch[..., top : top + self.size, left : left + self.size]
        elif (new_height, new_width) != (self.size, self.size):
            batch = pad(batch, (left, self.size - new_width - left, top, self.size - new_height - top))
        mean, std = (
            torch.tensor(v, dtype=batch.dtype, device=batch.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
        batch = (batch - mean) / std
        return batch if pixels.ndim == 4 else batch[0]

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, before padding or cropping."""
        if self.resize == "squash":
            return self.size, self.size
        if self.resize == "crop":  # torchvision's Resize truncates the longer side
            short, long = min(height, width), max(height, width)
            scaled = int(self.size * long / short)
            return (self.size, scaled) if height <= width else (scaled, self.size)
        scale = self.size / float(max(height, width))  # round() as in the official ResizeMaxSize: half to even
        return max(1, round(height * scale)), max(1, round(width * scale))


def check_file(path: Path) -> None:
    """See that an image file is there, is a file, is readable and not empty, without decoding it.

    Raises:
        ImageError: it is not; the message starts with the path.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({explain(error)}); check the path") from error
    if path.is_dir():
        raise ImageError(f"{path}: is a directory, expected an image file")
    if status.st_size == 0:
        raise ImageError(f"{path}: is empty (0 bytes), expected an image")
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path}: cannot be read (Permission denied); change its permissions")


def open_image(source: str | os.PathLike[str] | Image.Image) -> Image.Image:
    """Open, decode and check one image.

    Args:
        source: path of an image file, or a PIL image (left as it is).

    Returns:
        The first frame, upright, mode RGB, transparency flattened on `BACKGROUND`.

    Raises:
        ImageError: missing, empty, truncated, too large, not an image, or of a mode without a defined range.
    """
    if isinstance(source, Image.Image):
        return _decode(source, "PIL image")
    path = Path(source)
    check_file(path)
    try:
        with Image.open(path) as image:
            return _decode(image, str(path))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is not an image ({_looks_like(path)}); expected JPEG, PNG, WebP, …") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        message = f"{path}: has more than {limit:,} pixels, which may be a decompression bomb"
        raise ImageError(f"{message}; scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be decoded ({explain(error)}); make or download it again") from error


def _decode(image: Image.Image, place: str) -> Image.Image:
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        return _to_rgb(image, place)
    except ImageError:
        raise
    # Pillow's decoders raise whatever their format tempts them to (OSError, SyntaxError, struct.error, IndexError,
    # zlib.error, MemoryError …): at this one place every exception means that the file is broken.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{place}: cannot be decoded ({reason}); make or download it again") from error


def _to_rgb(image: Image.Image, place: str) -> Image.Image:
    if image.width < 1 or image.height < 1:
        raise ImageError(f"{place}: is {image.width}x{image.height} pixels, expected at least 1x1")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BIT:
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        cure = "convert it to 8 or 16 bits per channel"
        raise ImageError(f"{place}: has pixels of mode {image.mode!r}, which have no defined range; {cure}")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _looks_like(path: Path) -> str:
    with path.open("rb") as handle:
        head = handle.read(64)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return f"it starts like a web page: {head[:24]!r}"
    return f"it starts with {head[:16]!r}"


def to_tensor(source: str | os.PathLike[str] | Image.Image | Tensor) -> Tensor:
    """One image as a tensor.

    Args:
        source: whatever `open_image` takes, or a float tensor (3, H, W) in [0, 1].

    Returns:
        (3, H, W) float32 in [0, 1]. A tensor keeps its device and its gradient.

    Raises:
        ImageError: see `open_image`; or the tensor has another shape, type or range.
        InputError: `source` is of another kind.
    """
    import torch

    if isinstance(source, torch.Tensor):
        return check_tensor(source, dimensions=3)
    if not isinstance(source, str | os.PathLike | Image.Image):
        expected = "a path, a PIL image or a float tensor (3, H, W) in [0, 1]"
        raise InputError(f"image: is of type {type(source).__name__}, expected {expected}")
    array = np.array(open_image(source))  # (H, W, 3) uint8, a copy that torch may own
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div_(255)


def check_tensor(pixels: Tensor, *, dimensions: int) -> Tensor:
    """See that a tensor holds RGB pixels in [0, 1]; return it as float32.

    Raises:
        ImageError: it does not; the message says what was found and the likely cure.
    """
    expected = "(3, H, W)" if dimensions == 3 else "(N, 3, H, W)"
    shape = tuple(pixels.shape)
    if pixels.ndim != dimensions or shape[-3] != 3 or 0 in shape[-2:]:
        cure = "permute channels to the front" if shape[-1:] == (3,) else "pass RGB pixels"
        raise ImageError(f"image tensor: shape is {shape}, expected {expected}; {cure}")
    if not pixels.is_floating_point():
        raise ImageError(f"image tensor: type is {pixels.dtype}, expected float in [0, 1]; use .float().div(255)")
    if pixels.numel():
        low, high = (float(v) for v in pixels.detach().aminmax())
        if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
            cure = "map [-1, 1] by (x + 1) / 2, [0, 255] by x / 255; NaN means that the generator diverged"
            raise ImageError(f"image tensor: values run from {low:g} to {high:g}, expected [0, 1]; {cure}")
    return pixels.float()
