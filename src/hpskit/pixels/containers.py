"""Take from an image file what its pixels need: one frame, its transparency and its EXIF orientation.

Texts, colour profiles, previews and private data are gone before Pillow sees the file, so that none of them can turn an
image, refuse it or fill the memory. Layouts that Pillow misreads are refused by name.

Sources: PNG (W3C, third edition, with APNG), JPEG (ITU-T T.81), TIFF 6.0, WebP (RFC 9649), BMP (Microsoft).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hpskit.errors import ImageError

_AGAIN, _AS_PNG = "make or download it again", "save it as PNG"
_MOST_VALUES = 1_000_000
"""Values of a TIFF tag that are read: more than an image has strips or tiles."""
_TIFF_TAGS = frozenset(
    {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, *range(320, 326), 332, 338, 339, 347}
    | {*range(512, 522), *range(529, 533)}
)
"""Tags that say where the pixels are and what they mean; neither 274 (orientation) nor anything in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """An image file without what its pixels do not need."""

    data: bytes
    """What Pillow is to decode."""
    canvas: tuple[int, int] | None = None
    """Width and height of the whole image, where the frame may be smaller; else None."""
    place: tuple[int, int] = (0, 0)
    """Left and upper edge of the frame on the canvas, which is transparent around it."""
    orientation: int = 1
    """How the pixels are stored, 1 (upright) to 8, as EXIF counts."""
    levels: tuple[int, int] = (0, 0xFFFF)
    """The values that are black and white where a pixel is one number of more than 8 bits."""
    layout: str = ""
    """How the pixels are arranged, for errors; empty if the format leaves no choice."""


def exif_orientation(exif: bytes) -> int:
    """Read how pixels are stored, 1 to 8, from EXIF data; 1 if they do not say it or are broken."""
    try:
        tags = _Tags(exif)
        (value,) = tags.values(274) if tags.kind(274) == "H" else (1,)
    except (struct.error, LookupError, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def _broken(what: str) -> ImageError:
    return ImageError("", f"cannot be decoded ({what})", cure=_AGAIN)


def _check(layout: str, misread: Mapping[str, object]) -> None:
    """Refuse a layout of which something is so that Pillow misreads."""
    for what, is_so in misread.items():
        if is_so:
            raise ImageError("", f"is {layout} with {what}, which is not read", cure=_AS_PNG)


# PNG


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and content of each chunk; what is not needed or not sound is empty, what is cut off is short."""
    view, position = memoryview(data), 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = view[position + 8 : position + 8 + length]
        position += 12 + length
        pixels, critical = kind in (b"IDAT", b"fdAT"), not kind[:1].islower()
        sound = zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big") == data[position - 4 : position]
        known = pixels or kind in (b"IHDR", b"PLTE", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL")
        if critical and not (known and sound):
            raise _broken(f"chunk {kind!r}")
        if not (known and sound):
            content = content[:0]
        yield kind, content


def _png(data: bytes) -> Container:
    """Keep header, palette, transparency and pixels of the image, or of the first frame of an animation."""
    kept, pixels, source = dict[bytes, memoryview](), list[memoryview](), b"IDAT"
    for kind, content in _png_chunks(data):
        if kind == source:
            pixels.append(content[4:] if kind == b"fdAT" else content)
        elif not pixels:
            kept.setdefault(kind, content)
        elif b"acTL" not in kept or b"fcTL" in kept:
            break
        elif kind == b"fcTL":  # the image before is for programs that do not show animations
            kept[kind], pixels, source = content, [], b"fdAT"
    header, (left, top) = struct.unpack(">IIBBBBB", kept[b"IHDR"]), (0, 0)
    canvas, depth, colour = header[:2], *header[2:4]
    if source == b"fdAT":
        *frame, left, top = struct.unpack_from(">4I", kept[b"fcTL"], 4)
        header = (*frame, *header[2:])
    palette = bytes(kept[b"PLTE"]) if colour == 3 else b""
    parts: list[bytes | memoryview] = [
        data[:8],
        _png_chunk(b"IHDR", struct.pack(">IIBBBBB", *header)),
        _png_chunk(b"PLTE", palette + palette[-3:] * (256 - len(palette) // 3)),
        _png_chunk(b"tRNS", _png_transparency(bytes(kept.get(b"tRNS", b"")), depth, colour)),
        struct.pack(">I4s", sum(map(len, pixels)), b"IDAT"),
        *pixels,
        b"\0\0\0\0\0\0\0\0IEND\xae\x42\x60\x82",  # Pillow does not look at the first checksum
    ]
    turned = exif_orientation(bytes(kept.get(b"eXIf", b"")))
    return Container(data=b"".join(parts), canvas=canvas, place=(left, top), orientation=turned)


def _png_transparency(content: bytes, depth: int, colour: int) -> bytes:
    """Return what is transparent, a grey level in the unit of the 8 bits that Pillow makes of it; empty: nothing."""
    if colour == 0 and depth in (2, 4) and len(content) == 2:
        level = int.from_bytes(content, "big") * 255 // ((1 << depth) - 1)
        return level.to_bytes(2, "big") if level <= 255 else b""
    return content if len(content) == {0: 2, 2: 6, 3: len(content)}.get(colour) else b""


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return struct.pack(">I4s", len(content), kind) + content + checksum if content else b""


# JPEG


def _jpeg(data: bytes) -> Container:
    """Keep no application segments and comments but those that say how the colours are coded."""
    view, orientation, components, position = memoryview(data), 0, 0, 2
    parts = [view[:2]]
    while True:
        position = data.index(b"\xff", position)
        while data[position] == 0xFF:
            position += 1
        marker, start = data[position], position - 1
        if marker == 0xDA:  # the first scan; the rest is for the decoder
            layout = "" if data[position + 3] == components else "a JPEG of several scans"
            return Container(data=b"".join([*parts, view[start:]]), orientation=orientation or 1, layout=layout)
        if marker in (0x00, 0x01, *range(0xD0, 0xDA)):  # stands alone
            continue
        (length,) = struct.unpack_from(">H", data, position + 1)
        position += 1 + length
        if marker in (0xC0, 0xC1):  # not progressive
            components = data[position - length + 7]
        begins = data[start + 4 : start + 10]
        if marker == 0xE1 and begins[:5] == b"Exif\0":
            orientation = orientation or exif_orientation(data[start + 10 : position])
        jfif, adobe = begins[:5] == b"JFIF\0" and length >= 16, begins[:5] == b"Adobe" and length >= 14
        if (jfif and marker == 0xE0) or (adobe and marker == 0xEE) or not 0xE0 <= marker <= 0xFE:
            parts.append(view[start:position])


# WebP


def _webp(data: bytes) -> Container:
    """Let what an animation leaves free of its canvas be transparent, whether it says so or not."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise _broken("it is cut off")
    kind, flags = data[12:16], data[20]
    if kind == b"VP8X":
        sides = [1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27)]
        data = b"".join([data[:20], bytes([flags | 0x10]), memoryview(data)[21:]]) if flags & 0x02 else data
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        sides = [1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)]
    else:
        sides = [side & 0x3FFF for side in struct.unpack_from("<HH", data, 26)]
    return Container(data=data, canvas=(sides[0], sides[1]))


# TIFF


class _Tags:
    """The first directory of a TIFF file, or of EXIF data."""

    def __init__(self, data: bytes) -> None:
        self._data, self.order = data, {b"II*\0": "<", b"MM\0*": ">"}[data[:4]]
        (start,) = self.numbers("I", 4)
        (count,) = self.numbers("H", start)
        places = range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12)
        self.entries = {self.numbers("H", place)[0]: data[place : place + 12] for place in places}

    def numbers(self, kinds: str, place: int) -> tuple[int, ...]:
        """Read numbers in the byte order of the file."""
        return struct.unpack_from(self.order + kinds, self._data, place)

    def kind(self, tag: int) -> str:
        """Return how the values of a tag are packed; empty if they are no whole numbers, or too many."""
        _, kind, count = struct.unpack_from(f"{self.order}HHI", self.entries[tag])
        return {1: "B", 3: "H", 4: "I"}.get(kind, "") if 0 < count <= _MOST_VALUES else ""

    def values(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole numbers of a tag, `default` if there are none."""
        if tag not in self.entries or not (kind := self.kind(tag)):
            return default
        entry = self.entries[tag]
        count, place = struct.unpack_from(f"{self.order}II", entry, 4)
        if count * struct.calcsize(kind) <= 4:
            return struct.unpack_from(f"{self.order}{count}{kind}", entry, 8)
        return self.numbers(f"{count}{kind}", place)


def _tiff(data: bytes) -> Container:
    """Append a directory of the needed tags and lead to it; the rest of the file stays where it is."""
    _check("BigTIFF", {"64 bits for each place": data[2:4] in (b"+\0", b"\0+")})
    tags = _Tags(data)
    usual = {254: 0, 258: 1, 259: 1, 262: 0, 266: 1, 277: 1, 284: 1}
    purpose, depth, compression, meaning, fill, samples, planar = (tags.values(t, (u,))[0] for t, u in usual.items())
    layout = (
        f"a TIFF of photometric interpretation {meaning}, {samples} samples of {depth} bits, compression {compression}"
    )
    raw = compression == 1
    misread = {
        "a preview of another page": purpose & 1,
        "samples that are no unsigned numbers": {*tags.values(339)} - {1},
        "CIELAB colours": meaning in (8, 9, 10),
        "YCbCr colours of half the resolution": meaning == 6 and raw and tags.values(530, (2, 2)) != (1, 1),
        "a plane for each channel": planar == 2
        and ((raw and (depth, fill, meaning > 0) != (8, 1, True)) or (meaning in (0, 1, 3) and samples > 1)),
        "a palette of 8 bits": meaning == 3 and max(tags.values(320, (256,))) < 256,
    }
    _check(layout, misread)
    entries = [entry for tag, entry in sorted(tags.entries.items()) if tag in _TIFF_TAGS]
    entries = [entry for entry in entries if struct.unpack_from(f"{tags.order}I", entry, 4)[0] <= _MOST_VALUES]
    directory = [struct.pack(f"{tags.order}H", len(entries)), *entries, bytes(4)]
    lead = struct.pack(f"{tags.order}I", len(data) + len(data) % 2)
    white = (1 << min(depth, 16)) - 1
    return Container(
        data=b"".join([data[:4], lead, memoryview(data)[8:], bytes(len(data) % 2), *directory]),
        orientation=exif_orientation(data),
        levels=(white, 0) if meaning == 0 else (0, white),
        layout=layout,
    )


# BMP


def _bmp(data: bytes) -> Container:
    """Refuse what Pillow misreads."""
    header, bits, compression = (*struct.unpack_from("<I", data, 14), *struct.unpack_from("<HI", data, 28))
    if header < 40:
        return Container(data=data)
    masks, layout = (
        struct.unpack("<4I", data[54:70].ljust(16, b"\0")),
        f"a BMP of {bits} bits, compression {compression}",
    )
    alpha = masks[3] if header >= 56 else 0
    misread = {
        "run lengths": compression in (1, 2),
        "transparency in 16 bits": bits == 16 and compression and alpha,
        "no bits for its colours": compression == 3 and not any(masks[:3]),
    }
    _check(layout, misread)
    if header >= 108 and bits == 32 and compression == 0 and alpha:  # the masks count, whatever the compression says
        data = b"".join([data[:30], b"\3", memoryview(data)[31:]])
    return Container(data=data, layout=layout)


STRIPPED: Mapping[str, Callable[[bytes], Container]] = MappingProxyType(
    {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "TIFF": _tiff, "BMP": _bmp}
)
"""For formats, by Pillow's names: from a file to what is needed of it.

They raise an ImageError of no place, or struct.error or LookupError for what is cut off.
"""
