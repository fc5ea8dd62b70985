"""Image files that Pillow does not write: PNG, GIF, WebP, BMP and TIFF of every layout, from arrays of samples."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Samples = NDArray[np.integer[Any]]


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """EXIF data that say one thing, as a PNG holds them."""
    return struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 1, orientation) + bytes(4)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def packed(row: Samples, bits: int, order: str = ">") -> bytes:
    """One row of samples, the first in the highest bits."""
    if bits >= 8:
        return row.astype(f"{order}u{bits // 8}").tobytes()
    return np.packbits((row[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes()


# PNG

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    own = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", own)


def png_pixels(samples: Samples, bits: int, *, interlaced: bool = False) -> bytes:
    parts = [samples[y::down, x::along] for y, x, down, along in _ADAM7] if interlaced else [samples]
    rows = (packed(row.reshape(-1), bits) for part in parts if part.size for row in part)
    return zlib.compress(b"".join(b"\0" + row for row in rows))


def png(samples: Samples, colour: int, bits: int, *, before: Sequence[bytes] = (), interlaced: bool = False) -> bytes:
    """(H, W, channels) -> a file of this colour type, with these chunks before the pixels."""
    height, width = samples.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    pixels = chunk(b"IDAT", png_pixels(samples, bits, interlaced=interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + pixels + chunk(b"IEND", b"")


def animated_png(default: Samples, frame: Samples, place: tuple[int, int]) -> bytes:
    """An image for programs that show no animations, and an animation of one frame somewhere on it."""
    control = struct.pack(">IIIIIHHBB", 0, frame.shape[1], frame.shape[0], *place, 1, 10, 0, 0)
    still = png(default, 2, 8, before=[chunk(b"acTL", struct.pack(">II", 1, 0))])
    moving = chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", 1) + png_pixels(frame, 8))
    return still.replace(chunk(b"IEND", b""), moving + chunk(b"IEND", b""))


# GIF


def gif(
    indices: Samples,
    palette: Sequence[Sequence[int]],
    *,
    screen: tuple[int, int] | None = None,
    place: tuple[int, int] = (0, 0),
    transparent: int | None = None,
    local: bool = False,
    interlaced: bool = False,
    more: bytes = b"",
) -> bytes:
    """A first frame somewhere on a screen; `more` follows it."""
    height, width = indices.shape
    bits = max(2, (len(palette) - 1).bit_length())
    table = b"".join(map(bytes, palette)).ljust(3 << bits, b"\0")
    screened = struct.pack("<HHBBB", *(screen or (width, height)), 0 if local else 0xF0 | (bits - 1), 0, 0)
    control = b"" if transparent is None else b"!\xf9\x04\x01\0\0" + bytes([transparent, 0])
    flags = (0x80 | (bits - 1) if local else 0) | (0x40 if interlaced else 0)
    rows = [n for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for n in range(first, height, step)]
    clear, codes = 1 << bits, list[int]()
    for number, index in enumerate(indices[rows if interlaced else slice(None)].ravel().tolist()):
        codes += ([clear] if number % (clear - 2) == 0 else []) + [index]  # so that codes never grow
    whole = sum(code << n * (bits + 1) for n, code in enumerate([*codes, clear + 1]))
    data = whole.to_bytes(((len(codes) + 1) * (bits + 1) + 7) // 8, "little")
    blocks = b"".join(bytes([len(data[n : n + 255])]) + data[n : n + 255] for n in range(0, len(data), 255))
    descriptor = b"," + struct.pack("<HHHHB", *place, width, height, flags) + (table if local else b"")
    start = b"GIF89a" + screened + (b"" if local else table)
    return start + control + descriptor + bytes([bits]) + blocks + b"\0" + more + b";"


# WebP


def animated_webp(image: Image.Image, canvas: tuple[int, int], place: tuple[int, int], *, alpha: bool) -> bytes:
    """An animation of one lossless frame, which says of itself whether it is transparent anywhere."""

    def number(value: int) -> bytes:
        return value.to_bytes(3, "little")

    def riff(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    frame = b"".join(map(number, (place[0] // 2, place[1] // 2, image.width - 1, image.height - 1, 100))) + b"\0"
    header = bytes([0x12 if alpha else 0x02, 0, 0, 0]) + number(canvas[0] - 1) + number(canvas[1] - 1)
    still = encoded(image, "WEBP", lossless=True, exact=True)[12:]
    parts = riff(b"VP8X", header) + riff(b"ANIM", bytes(6)) + riff(b"ANMF", frame + still)
    return riff(b"RIFF", b"WEBP" + parts)


# BMP


def bmp(rows: Sequence[bytes], size: tuple[int, int], bits: int, *, palette: bytes = b"", **options: Any) -> bytes:
    """Rows from the top; `header` (bytes), `compression`, `masks` and `from_top` may be given."""
    header, compression = options.get("header", 40), options.get("compression", 0)
    masks = struct.pack("<4I", *options.get("masks", (0, 0, 0, 0)))
    from_top = options.get("from_top", False)
    pixels = b"".join(row + bytes(-len(row) % 4) for row in (rows if from_top else rows[::-1]))
    height = -size[1] if from_top else size[1]
    fields = (header, size[0], height, 1, bits, compression, len(pixels), 2835, 2835, 0, 0)
    description = (struct.pack("<IiiHHIIiiII", *fields) + masks).ljust(header, b"\0")[:header]
    description += masks[:12] if header == 40 and compression == 3 else b""
    start = 14 + len(description) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + description + palette + pixels


# TIFF


def tiff(samples: Samples, meaning: int, bits: int, **options: Any) -> bytes:
    """(H, W, channels) -> a file of this photometric interpretation.

    `order` (< or >), `planar`, `compression` (1 or 8), `tile` (a side) and more `tags` as {tag: shorts} may be given.
    """
    order, planar, tile = options.get("order", "<"), options.get("planar", 1), options.get("tile")
    compression = options.get("compression", 1)
    (height, width), channels = samples.shape[:2], samples.shape[2]
    planes = [samples] if planar == 1 else np.split(samples, channels, axis=2)
    if tile:
        wide = ((0, -height % tile), (0, -width % tile), (0, 0))
        planes = [np.pad(plane, wide) for plane in planes]
        corners = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
        planes = [plane[y : y + tile, x : x + tile] for plane in planes for y, x in corners]
    blobs = [b"".join(packed(row.reshape(-1), bits, order) for row in plane) for plane in planes]
    blobs = [zlib.compress(blob) if compression == 8 else blob for blob in blobs]
    starts = (8 + np.cumsum([0, *map(len, blobs)])).tolist()
    places = {324 if tile else 273: starts[:-1], 325 if tile else 279: [*map(len, blobs)]}
    shorts = {258: [bits] * channels, 259: [compression], 262: [meaning], 277: [channels], 284: [planar]}
    shorts |= {322: [tile], 323: [tile]} if tile else {278: [height]}
    shorts |= {256: [width], 257: [height]} | options.get("tags", {})
    entries, far, end = list[bytes](), b"", starts[-1] + 2 + 12 * (len(shorts) + 2) + 4
    for tag, values in sorted((shorts | places).items()):
        content = struct.pack(f"{order}{len(values)}{'I' if tag in places else 'H'}", *values)
        entries.append(struct.pack(f"{order}HHI", tag, 4 if tag in places else 3, len(values)))
        entries[-1] += content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(f"{order}I", end + len(far))
        far += content if len(content) > 4 else b""
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, starts[-1])
    return head + b"".join(blobs) + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4) + far
