"""Images as annotators get them: the pixels that scorers see, and nothing that tells where they are from."""

from __future__ import annotations

import io
import struct
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from hpskit.annotation.setup import blind
from hpskit.errors import ImageError
from hpskit.pixels import Encoded, open_image
from small_project import MARK

SIZE = (48, 40)


@cache
def picture(mode: str = "RGB") -> Image.Image:
    """Something with edges and colours."""
    draw = np.random.default_rng(3)
    small = Image.fromarray(draw.integers(0, 256, (10, 12, 3), dtype=np.uint8))
    return small.resize(SIZE, Image.Resampling.BICUBIC).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    memory = io.BytesIO()
    (image or picture()).save(memory, kind, **options)  # type: ignore[arg-type]
    return memory.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def exif(orientation: int = 1) -> bytes:
    made = Image.Exif()
    made[0x010E] = made[0x0131] = made[0x9286] = MARK
    made[0x0112] = orientation
    return made.tobytes()


def texts() -> PngInfo:
    made = PngInfo()
    for name in ("parameters", "Software"):
        made.add_text(name, f"{MARK} v3")
    made.add_text("prompt", f"{MARK} zipped", zip=True)
    made.add_itxt("workflow", f"{MARK} utf-8")
    return made


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + MARK.encode() + b"</x:xmpmeta>"
JPEG = encoded("JPEG", quality=90)
MARKED = {
    "JPEG": JPEG,
    "JPEG, EXIF": encoded("JPEG", exif=exif()),
    "JPEG, EXIF, turned": encoded("JPEG", exif=exif(6)),
    "JPEG, comment": encoded("JPEG", comment=MARK.encode()),
    "JPEG, colour profile": encoded("JPEG", icc_profile=PROFILE + MARK.encode()),
    "JPEG, XMP": with_segments(JPEG, segment(0xE1, XMP)),
    "JPEG, all of APP0 to APP15": with_segments(
        JPEG, *(segment(0xE0 + n, MARK.encode()) for n in range(16) if n != 14)
    ),
    "JPEG, comment before a scan": JPEG.replace(b"\xff\xda", segment(0xFE, MARK.encode()) + b"\xff\xda", 1),
    "JPEG, something behind it": JPEG + MARK.encode(),
    "JPEG, a second one behind it": JPEG + encoded("JPEG", comment=MARK.encode()),
    "JPEG, fill bytes": JPEG.replace(b"\xff\xda", b"\xff\xff\xff" + segment(0xFE, MARK.encode()) + b"\xff\xda", 1),
    "JPEG, progressive": encoded("JPEG", progressive=True, comment=MARK.encode(), exif=exif()),
    "JPEG, restart markers": encoded("JPEG", restart_marker_blocks=2, comment=MARK.encode()),
    "JPEG, grey": encoded("JPEG", picture("L"), comment=MARK.encode()),
    "JPEG, CMYK": encoded("JPEG", picture("CMYK"), comment=MARK.encode()),
    "JPEG, 4:2:0": encoded("JPEG", subsampling=2, comment=MARK.encode()),
    "MPO": encoded("MPO", save_all=True, append_images=[picture().rotate(180)], comment=MARK.encode()),
    "PNG": encoded("PNG", pnginfo=texts(), exif=exif(), icc_profile=PROFILE),
    "PNG, palette": encoded("PNG", picture().quantize(16), pnginfo=texts()),
    "PNG, transparent": encoded("PNG", picture("RGBA"), pnginfo=texts()),
    "PNG, something behind it": encoded("PNG") + MARK.encode(),
    "WebP": encoded("WEBP", exif=exif(), xmp=XMP, icc_profile=PROFILE),
    "WebP, lossless": encoded("WEBP", lossless=True, exif=exif()),
    "GIF": encoded("GIF", comment=MARK.encode()),
    "TIFF": encoded("TIFF", tiffinfo={270: MARK, 305: MARK}),
    "BMP": encoded("BMP"),
}


@pytest.mark.parametrize("kind", MARKED)
def test_only_the_pixels_are_left(kind: str) -> None:
    data = MARKED[kind]
    expected = open_image(Encoded(data, "an image"))
    kept, ending, size = blind(Encoded(data, f"{MARK}.x"))
    assert MARK.encode() not in kept
    assert PROFILE[:64] not in kept
    with Image.open(io.BytesIO(kept)) as opened:
        assert opened.format == {".jpg": "JPEG", ".png": "PNG"}[ending]
        assert getattr(opened, "n_frames", 1) == 1
        assert not opened.getexif()
        assert set(opened.info) <= {"adobe", "adobe_transform", "progressive", "progression", "transparency"}
        opened.load()
        assert opened.info.get("comment") is None
    found = open_image(Encoded(kept, "what is kept"))
    assert found.size == expected.size == size
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_a_jpeg_stays_one_where_its_pixels_do() -> None:
    """A PNG of a photograph is ten times as large, and every annotator loads it."""
    for kind in ("JPEG", "JPEG, EXIF", "JPEG, progressive", "JPEG, restart markers", "JPEG, 4:2:0"):
        assert blind(Encoded(MARKED[kind], "an image"))[1] == ".jpg", kind


def test_the_same_pixels_of_two_generators_are_the_same_file() -> None:
    kinds = ("JPEG", "JPEG, XMP", "JPEG, comment before a scan", "JPEG, something behind it", "JPEG, fill bytes")
    assert len({blind(Encoded(MARKED[kind], kind))[0] for kind in kinds}) == 1


def harmless(data: bytes) -> None:
    """Bring an image, or refuse it by name; what is brought has the pixels that scorers see, and no marker."""
    try:
        kept, _, _ = blind(Encoded(data, "a damaged image"))
    except ImageError:
        return
    expected, found = open_image(Encoded(data, "before")), open_image(Encoded(kept, "after"))
    assert np.array_equal(np.asarray(expected), np.asarray(found))


sources = st.sampled_from([data for kind, data in MARKED.items() if kind.startswith(("JPEG", "MPO"))])
places = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8)


def damaged(data: bytes, changes: list[tuple[float, int]], end: float, *, headers: bool) -> bytes:
    bytes_ = bytearray(data)
    reach = min(700, len(bytes_)) if headers else len(bytes_)
    for share, value in changes:
        bytes_[2 + int(share * (reach - 3))] = value
    return bytes(bytes_[: max(3, int(end * len(bytes_)))])


@settings(max_examples=150)
@given(sources, places, st.one_of(st.just(1.0), st.floats(0, 1)), st.booleans())
def test_damaged_files_are_brought_rightly_or_refused(
    data: bytes, changes: list[tuple[float, int]], end: float, headers: bool
) -> None:
    harmless(damaged(data, changes, end, headers=headers))


@settings(max_examples=60)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xda\x00", JPEG[:200], JPEG[:-2]]))
def test_bytes_that_are_no_image_are_refused(tail: bytes, head: bytes) -> None:
    harmless(head + tail)


@pytest.mark.slow
@settings(max_examples=20_000)
@given(sources, places, st.one_of(st.just(1.0), st.floats(0, 1)), st.booleans())
def test_thousands_of_damaged_files(data: bytes, changes: list[tuple[float, int]], end: float, headers: bool) -> None:
    harmless(damaged(data, changes, end, headers=headers))
