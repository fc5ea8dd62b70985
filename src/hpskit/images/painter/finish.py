"""The last touches: bloom, vignette, colour, and whatever the settings spoil."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from hpskit.images.painter.canvas import Canvas
from hpskit.images.painter.texture import Field

__all__ = ["finish"]

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def finish(canvas: Canvas) -> Image.Image:
    """The painted picture as an RGB image."""
    s = canvas.settings
    pixels = np.clip(canvas.pixels, 0, 1)
    if s.light:
        pixels = _glowing(canvas, pixels)
    if s.saturation != 1:
        grey = (pixels * _GREY).sum(axis=2, keepdims=True)  # a matrix product would depend on the machine
        pixels = grey + (pixels - grey) * s.saturation
    if s.blur:
        pixels = _blurred(pixels, s.blur * canvas.unit)
    if s.levels < 256:
        pixels = np.rint(np.clip(pixels, 0, 1) * (s.levels - 1)) / (s.levels - 1)
    if s.noise:
        pixels = pixels + canvas.dice.of("noise").standard_normal(pixels.shape, dtype=np.float32) * s.noise
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
    if s.placement < 1:
        image = _tilted(image, float(canvas.dice.of("tilt").uniform(-1, 1)) * 9 * (1 - s.placement))
    return image if s.jpeg is None else _compressed(image, s.jpeg)


def _glowing(canvas: Canvas, pixels: Field) -> Field:
    """Light that spills from what is bright, corners a little darker, a little more contrast."""
    strength, size = canvas.settings.light, canvas.size
    small = Image.fromarray((np.clip(pixels - 0.72, 0, 1) * 3.5 * 255).clip(0, 255).astype(np.uint8)).reduce(4)
    soft = small.filter(ImageFilter.GaussianBlur(size / 130)).resize((size, size), Image.Resampling.BILINEAR)
    bloom = np.asarray(soft, dtype=np.float32) / 255 * 0.16 * strength
    pixels = 1 - (1 - pixels) * (1 - bloom)
    across, down = (canvas.columns / size - 0.5) ** 2, (canvas.rows / size - 0.5) ** 2
    pixels *= (1 - 0.42 * strength * (across + down))[..., None]
    curve = pixels * pixels * (3 - 2 * pixels)
    return pixels + (curve - pixels) * 0.28 * strength


def _blurred(pixels: Field, radius: float) -> Field:
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def _tilted(image: Image.Image, degrees: float) -> Image.Image:
    """Turned, and enlarged so far that no corner is empty."""
    size = image.width
    angle = np.deg2rad(abs(degrees))
    wide = int(size * (np.cos(angle) + np.sin(angle))) + 2
    turned = image.resize((wide, wide), Image.Resampling.BILINEAR).rotate(degrees, Image.Resampling.BILINEAR)
    corner = (wide - size) // 2
    return turned.crop((corner, corner, corner + size, corner + size))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "jpeg", quality=quality)
    return Image.open(held).convert("RGB")
