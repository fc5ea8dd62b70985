"""Make an image the input of a network: letterbox, resize and normalise, by one code for files, PIL images and tensors.

The default is the official transform (`image_transform` in the open_clip of the HPSv2 repository, with
`resize_longest_max`): RGB, float in [0, 1], bicubic resizing *of the tensor* so that the longest side fits, black
padding, normalisation. Beyond it, no side becomes shorter than one pixel, and an image whose longest side fits already
is padded all the same.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from hpskit.errors import ImageError, InputError
from hpskit.pixels.images import Encoded, opened

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Resize = Literal["letterbox", "crop", "crop-floor", "squash", "multiple"]
Interpolation = Literal["bicubic", "bilinear"]
Layout = Literal["NCHW", "NHWC"]
_CHANNELS: Mapping[Layout, int] = {"NCHW": -3, "NHWC": -1}

_RANGE_TOLERANCE = 1e-3
_PILLOW_UNIT = 2.0**22
_LONGEST_MULTIPLE = 200
_LONGEST = 100  # a centre crop enlarges all of the image first
_AT_ONCE = 2**22  # pixels of a large image that are floats at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """The way from an image to the input of a network."""

    size: int = 224
    """Height and width of the input in pixels; with `multiple`, what both are multiples of."""
    resize: Resize = "letterbox"
    """`letterbox`: longest side to `size`, centred on zeros; `crop`: shortest side to `size`, centre kept, half a
    pixel rounded as torchvision does; `crop-floor`: the same, half a pixel dropped, as transformers did when PickScore
    was published; `squash`: both sides to `size`, proportions lost; `multiple`: both sides to a multiple of `size`,
    proportions kept as well as that allows, as Qwen-VL does (`smart_resize` of qwen-vl-utils)."""
    area: tuple[int, int] = (0, 0)
    """With `multiple`, the least and the most pixels of the input; the other kinds have none."""
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    """True is what the official code does with torchvision >= 0.17; False is what it did before, when the tables
    of the paper and of v2.1 were computed."""
    pillow: bool = False
    """Resize as Pillow does with 8-bit images, to the last bit, which is what the transforms of CLIP and its kin do:
    values are rounded to 8 bits before, between and after the horizontal and the vertical pass, in this order, as in
    every Pillow before 13 (which begins with the vertical pass where that is faster). Gradients pass through the
    rounding. Needs `antialias`."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError("preprocessing: size", f"is {self.size}", expected="at least 1 pixel")
        for name, value, kind in (
            ("resize", self.resize, Resize),
            ("interpolation", self.interpolation, Interpolation),
        ):
            if value not in get_args(kind):
                raise InputError(
                    f"preprocessing: {name}", f"is {value!r}", expected=f"one of {', '.join(get_args(kind))}"
                )
        if (self.resize == "multiple") != (0 < self.size**2 <= self.area[1] >= self.area[0]):
            expected = "least and most pixels with resize='multiple', and with no other"
            raise InputError("preprocessing: area", f"is {self.area}", expected=expected)
        if self.pillow and not self.antialias:
            raise InputError("preprocessing: antialias", "is False", expected="True: Pillow always antialiases")

    @property
    def name(self) -> str:
        """One word for records, for example `letterbox-224-bicubic-antialias`."""
        filtering = "pillow" if self.pillow else "antialias" if self.antialias else "no_antialias"
        norm = "" if (self.mean, self.std) == (CLIP_MEAN, CLIP_STD) else f"-mean{self.mean[0]:g}-std{self.std[0]:g}"
        area = "" if self.resize != "multiple" else f"-{self.area[0]}to{self.area[1]}"
        return f"{self.resize}-{self.size}{area}-{self.interpolation}-{filtering}{norm}"

    def __call__(self, pixels: Tensor | Image.Image) -> Tensor:
        """Map an image to (3, size, size), or (..., 3, H, W) float in [0, 1] to (..., 3, size, size), normalised.

        With `multiple` the last two axes are what the proportions of the image give.

        A tensor keeps its gradient and device. An image, which is of mode RGB, gives what `to_tensor` of it gives, to
        the last bit, and takes little memory beside itself.

        Raises:
            ImageError: the image is so long and thin that a centre crop would take gigabytes.
        """
        import torch
        from torch.nn.functional import pad

        height, width = (pixels.height, pixels.width) if isinstance(pixels, Image.Image) else pixels.shape[-2:]
        new_height, new_width = self._resized(height, width)
        batch = self._narrowed(pixels, new_height, new_width) if isinstance(pixels, Image.Image) else pixels
        batch = batch if batch.ndim == 4 else batch[None]
        if (new_height, new_width) != batch.shape[-2:]:
            batch = self._interpolated(batch, new_height, new_width)
        top, left = (self.size - new_height) // 2, (self.size - new_width) // 2
        if self.resize.startswith("crop"):
            halves = ((n - self.size) / 2 for n in (new_height, new_width))
            top, left = (round(n) if self.resize == "crop" else int(n) for n in halves)  # round: half to even
            batch = batch[..., top : top + self.size, left : left + self.size]
        elif self.resize == "letterbox" and new_height != new_width:
            batch = pad(batch, (left, self.size - new_width - left, top, self.size - new_height - top))
        mean, std = (
            torch.tensor(v, dtype=batch.dtype, device=batch.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
        batch = (batch - mean) / std
        return batch if isinstance(pixels, torch.Tensor) and pixels.ndim == 4 else batch[0]

    def _narrowed(self, image: Image.Image, height: int, width: int) -> Tensor:
        """Make an image a tensor (3, H, W): of the final size by Pillow, or of the final width if it is large.

        torch resizes along the rows first too, so strips of them give what the whole image gives.
        """
        import torch

        if self.pillow:
            kind = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[self.interpolation]
            for size in ((width, image.height), (width, height)):
                image = image.resize(size, kind) if size != image.size else image
        step = max(1, _AT_ONCE // image.width)
        if step >= image.height or image.width == width:
            return _as_tensor(image)
        strips = ((0, top, image.width, min(top + step, image.height)) for top in range(0, image.height, step))
        parts = (_as_tensor(image.crop(strip))[None] for strip in strips)
        return torch.cat([self._interpolated(part, part.shape[-2], width) for part in parts], dim=-2)[0]

    def _interpolated(self, batch: Tensor, height: int, width: int) -> Tensor:
        from torch.nn.functional import interpolate

        if not self.pillow:
            size = (height, width)
            return interpolate(batch, size, mode=self.interpolation, align_corners=False, antialias=self.antialias)
        return _resize_like_pillow(batch, height, width, self.interpolation)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, before padding or cropping."""
        if self.resize == "squash":
            return self.size, self.size
        if self.resize == "multiple":
            return self._multiple(height, width)
        if self.resize.startswith("crop"):  # torchvision's Resize truncates the longer side
            short, long = min(height, width), max(height, width)
            if long > _LONGEST * short:
                expected, cure = f"sides of at most {_LONGEST}:1", "cut it to what matters"
                raise ImageError("image", f"is {width}x{height} pixels", expected=expected, cure=cure)
            scaled = int(self.size * long / short)
            return (self.size, scaled) if height <= width else (scaled, self.size)
        scale = self.size / float(max(height, width))  # round() as in the official ResizeMaxSize: half to even
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _multiple(self, height: int, width: int) -> tuple[int, int]:
        """Round both sides to multiples of `size`; shrink or enlarge them if their product is outside `area`."""
        if max(height, width) > _LONGEST_MULTIPLE * min(height, width):
            expected, cure = f"sides of at most {_LONGEST_MULTIPLE}:1", "cut it to what matters"
            raise ImageError("image", f"is {width}x{height} pixels", expected=expected, cure=cure)
        least, most = self.area
        sides = [max(1, round(side / self.size)) for side in (height, width)]
        if math.prod(sides) * self.size**2 > most:
            shrink = math.sqrt(height * width / most)
            sides = [max(1, math.floor(side / shrink / self.size)) for side in (height, width)]
        elif math.prod(sides) * self.size**2 < least:
            enlarge = math.sqrt(least / (height * width))
            sides = [math.ceil(side * enlarge / self.size) for side in (height, width)]
        new_height, new_width = (side * self.size for side in sides)
        return new_height, new_width


def _resize_like_pillow(batch: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """Resize as Pillow does, on any device and with a gradient.

    Pillow sums products of 8-bit values and 22-bit weights. float64 holds those sums exactly, so ties fall as they
    do there. A device without float64 (mps) gets float32, where a value may come out one level off.
    """
    import torch

    exact = torch.float32 if batch.device.type == "mps" else torch.float64
    x = (255 * batch).to(exact)
    x = x + (_levels(batch).to(exact) - x).detach()
    for axis, size in ((-1, width), (-2, height)):
        if x.shape[axis] == size:
            continue
        weights = torch.from_numpy(_pillow_weights(x.shape[axis], size, interpolation)).to(x)
        sums = x @ weights.T if axis == -1 else weights @ x
        levels = (sums / _PILLOW_UNIT).clamp(0, 255)
        whole = ((sums + _PILLOW_UNIT / 2) / _PILLOW_UNIT).floor().clamp(0, 255)
        x = levels + (whole - levels).detach()
    return x.to(batch.dtype) / 255


def _levels(batch: Tensor) -> Tensor:
    """Values in [0, 1] as whole numbers from 0 to 255, as they would be saved."""
    return (255 * batch.detach()).add_(0.5).floor_().clamp_(0, 255)


@functools.lru_cache(maxsize=16)
def _pillow_weights(before: int, after: int, interpolation: Interpolation) -> NDArray[np.float64]:
    """(after, before): Pillow's weights in units of 2^-22, whole numbers.

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's src/libImaging/Resample.c.
    """
    scale = before / after
    stretch = max(scale, 1.0)
    support = stretch * {"bicubic": 2.0, "bilinear": 1.0}[interpolation]
    centre = (np.arange(after) + 0.5)[:, None] * scale
    place = np.arange(before)[None, :]
    first, last = (np.floor(centre + side * support + 0.5).clip(0, before) for side in (-1, 1))
    x = np.abs((place - centre + 0.5) * (1.0 / stretch))
    if interpolation == "bicubic":
        near = (1.5 * x - 2.5) * x * x + 1.0
        weights = np.where(x < 1.0, near, np.where(x < 2.0, (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5, 0.0))
    else:
        weights = np.where(x < 1.0, 1.0 - x, 0.0)
    weights = np.where((place >= first) & (place < last), weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.trunc(weights * _PILLOW_UNIT + np.copysign(0.5, weights))


def to_tensor(source: str | os.PathLike[str] | Encoded | Image.Image | Tensor | NDArray[Any]) -> Tensor:
    """Make one image a tensor.

    Args:
        source: whatever `open_image` takes, or an array as `as_pixels` takes it, of floats in [0, 1] or of uint8.

    Returns:
        (3, H, W) float32 in [0, 1]. A tensor keeps its device and its gradient.

    Raises:
        ImageError: see `open_image`; or the tensor has another shape, type or range.
        InputError: `source` is of another kind.
    """

    if not isinstance(source, str | os.PathLike | Encoded | Image.Image):
        return as_float(as_pixels(source, dimensions=3))
    with opened(source) as image:
        return _as_tensor(image)


def to_image(pixels: Tensor) -> Image.Image:
    """Make a tensor (3, H, W), uint8 or float in [0, 1], an image."""
    levels = pixels.detach() if _is_bytes(pixels) else (255 * pixels.detach()).round().clamp(0, 255)
    return Image.fromarray(levels.to("cpu").byte().permute(1, 2, 0).contiguous().numpy())


def _as_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [0, 1] of an image of mode RGB."""
    import torch

    array = np.array(image)  # (H, W, 3) uint8, a copy that torch may own
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div_(255)


def as_float(pixels: Tensor) -> Tensor:
    """Bring what `as_pixels` gives to float32 in [0, 1]."""
    return pixels.float().div(255) if _is_bytes(pixels) else pixels.float()


def _is_bytes(pixels: Tensor) -> bool:
    return pixels.element_size() == 1 and not pixels.is_floating_point()


def as_pixels(
    array: Tensor | NDArray[Any],
    *,
    dimensions: int,
    value_range: tuple[float, float] = (0, 1),
    layout: Layout | None = None,
) -> Tensor:
    """See that an array holds RGB pixels, and bring their channels to the front.

    Args:
        array: a tensor, or an array of NumPy; uint8, or floats in `value_range`; its channels are the axis that has
            3 entries, third from the end or last.
        dimensions: 3 for one image, 4 for several.
        value_range: floats that stand for black and white: (0, 1), or (-1, 1) as many a VAE gives.
        layout: `NCHW` or `NHWC`, if both those axes have 3 entries.

    Returns:
        (3, H, W) or (N, 3, H, W); uint8 as it was, floats as float32 in [0, 1], with device and gradient.

    Raises:
        ImageError: it holds something else.
        InputError: an option is impossible, or is needed.
    """
    import torch

    if value_range not in ((0, 1), (-1, 1)):
        raise InputError("value_range", f"is {value_range!r}", expected="(0, 1) or (-1, 1)")
    if layout not in (None, *get_args(Layout)):
        raise InputError("layout", f"is {layout!r}", expected=" or ".join(get_args(Layout)))
    pixels = _channels_first(_as_torch(array), dimensions, layout)
    if pixels.dtype == torch.uint8:
        if value_range != (0, 1):
            cure = "leave value_range out: it is for floats"
            raise InputError("value_range", f"is {value_range!r} for pixels of uint8", expected="0 to 255", cure=cure)
        return pixels
    if not pixels.is_floating_point():
        raise _of_another_type(pixels.dtype)
    pixels = pixels.float()
    if pixels.numel():
        low, high = pixels.detach().aminmax()
        _check_range(float(low), float(high), value_range)
    return pixels if value_range == (0, 1) else (pixels + 1) / 2


def _as_torch(array: Tensor | NDArray[Any]) -> Tensor:
    import torch

    if isinstance(array, torch.Tensor):
        return array
    if not isinstance(array, np.ndarray):
        expected = "a path, a PIL image, or an array or tensor (3, H, W) or (H, W, 3)"
        raise InputError("image", f"is of type {type(array).__name__}", expected=expected)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)  # which torch has, in the order of bytes that it reads
    elif array.dtype != np.uint8:
        raise _of_another_type(array.dtype)
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _of_another_type(kind: object) -> ImageError:
    cure = "divide by what white is, as in .float().div(255), or make it uint8 if that is 255"
    return ImageError("image tensor", f"is of {kind}", expected="floats or uint8", cure=cure)


def _channels_first(pixels: Tensor, dimensions: int, layout: Layout | None) -> Tensor:
    shape = tuple(pixels.shape)
    found = [] if len(shape) != dimensions else [name for name, axis in _CHANNELS.items() if shape[axis] == 3]
    if 0 in shape[1 if dimensions == 4 else 0 :] or not set(found) & {layout or found[0] if found else None}:
        expected = "(3, H, W) or (H, W, 3)" if dimensions == 3 else "(N, 3, H, W) or (N, H, W, 3)"
        expected = expected if layout is None else f"{layout[4 - dimensions :]} with 3 for C"
        raise ImageError("image tensor", f"has shape {shape}", expected=expected, cure="pass RGB pixels")
    if len(found) == 2 and layout is None:
        cure = "say which by layout='NCHW' or layout='NHWC'"
        raise ImageError("image tensor", f"has shape {shape}: its channels may come first or last", cure=cure)
    return pixels.movedim(-1, -3) if (layout or found[0]) == "NHWC" else pixels


def _check_range(low: float, high: float, value_range: tuple[float, float]) -> None:
    """Raise an ImageError that guesses why values are not in their range."""
    black, white = value_range
    near = (white - black) / 4
    if low >= black - _RANGE_TOLERANCE and high <= white + _RANGE_TOLERANCE:
        return
    if not (math.isfinite(low) and math.isfinite(high)):
        cure = "see what made it: NaN means that the generator diverged, or left the numbers of fp16"
    elif low >= black - near and high <= white + near:
        cure = f"clamp it, as in images.clamp({black}, {white}): a decoder may overshoot"
    elif low >= -1.5 and high <= 1.5:
        cure = "give value_range=(-1, 1), or map it by (x + 1) / 2"
    else:
        cure = "map [0, 255] by x / 255, or make it uint8"
    found = f"has values from {low:.5g} to {high:.5g}"
    raise ImageError("image tensor", found, expected=f"[{black}, {white}]", cure=cure)
