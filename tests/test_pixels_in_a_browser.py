"""What a scorer sees of a file is what a browser shows of it on a white page: made files, drawn by Chromium.

Formats that no browser shows (TIFF, PNM) are set beside the PNG file of the same picture.
"""

from __future__ import annotations

import base64
import itertools
import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from browser import needs_chromium, quiet_page
from error_fields import at
from hpskit.errors import ImageError
from hpskit.pixels import Encoded, open_image
from image_files import XMP, animated_png, animated_webp, bmp, chunk, encoded, exif, gif, packed, png, tiff

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 6, 8
DRAWN = """async (addresses) => {
  const canvas = document.createElement('canvas'), found = []
  const page = canvas.getContext('2d', {willReadFrequently: true, colorSpace: 'srgb'})
  for (const address of addresses) {
    const image = new Image()
    image.src = address
    await image.decode()
    Object.assign(canvas, {width: image.naturalWidth, height: image.naturalHeight})
    page.fillStyle = 'white'
    page.fillRect(0, 0, canvas.width, canvas.height)
    page.drawImage(image, 0, 0)
    found.push([canvas.width, canvas.height, ...page.getImageData(0, 0, canvas.width, canvas.height).data])
  }
  return found
}"""

Files = dict[str, bytes]
"""Names, whose first word is the format, and contents."""


def samples(bits: int, channels: int) -> np.ndarray:
    """Black, white and the levels between; the first two are what the transparent colours below are."""
    found = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, channels))
    found[0, :2] = [[0], [(1 << bits) - 1]]
    return found


def png_files() -> Files:
    files = dict[str, bytes]()
    for colour, depths, channels in ((0, (1, 2, 4, 8, 16), 1), (2, (8, 16), 3), (4, (8, 16), 2), (6, (8, 16), 4)):
        for bits in depths:
            pixels, top = samples(bits, channels), (1 << bits) - 1
            for interlaced in (False, True):
                files[f"png colour {colour}, {bits} bits, interlaced {interlaced}"] = png(
                    pixels, colour, bits, interlaced=interlaced
                )
            for level in (0, top) if colour in (0, 2) else ():
                key = chunk(b"tRNS", struct.pack(">H", level) * channels)
                files[f"png colour {colour}, {bits} bits, without {level}"] = png(pixels, colour, bits, before=[key])
    deep = samples(16, 3)
    deep[0, :4] = [[0x8000], [0x0080], [0x8001], [0x0000]]
    for level in (0x8000, 0x0080):
        key = chunk(b"tRNS", struct.pack(">H", level) * 3)
        files[f"png 16 bits, without {level:x}"] = png(deep, 2, 16, before=[key], interlaced=level == 0x80)
    for bits in (1, 2, 4, 8):
        palette = chunk(b"PLTE", RNG.integers(0, 256, 3 << bits).astype(np.uint8).tobytes())
        for name, alphas in (("opaque", b""), ("one gone", b"\0"), ("partly", b"\x50\xc0"), ("two", b"\xff\0")):
            before = [palette, chunk(b"tRNS", alphas)] if alphas else [palette]
            files[f"png palette of {bits} bits, {name}"] = png(samples(bits, 1), 3, bits, before=before)
    short = chunk(b"PLTE", bytes((10, 200, 30, 40, 50, 60)))
    files["png palette too short"] = png(samples(4, 1), 3, 4, before=[short])
    files["png animation beside the image"] = animated_png(samples(8, 3), samples(8, 3)[:3, :4], (2, 1))
    return files


def metadata_files() -> Files:
    """Sound pictures with texts, profiles and private data that are endless, broken or beside the point."""
    text = PngInfo()
    text.add_text("workflow", "x" * 2**21, zip=True)
    picture = samples(8, 3)
    chunks = {
        "a text with a wrong checksum": chunk(b"tEXt", b"a\0b", checksum=7),
        "private data with a wrong checksum": chunk(b"abCd", b"ab", checksum=7),
        "a text packed in an unknown way": chunk(b"zTXt", b"a\0\x09b"),
        "a profile packed in an unknown way": chunk(b"iCCP", b"a\0\x09b"),
        "a profile that is none": chunk(b"iCCP", b"a\0\0b"),
        "cut chromaticities": chunk(b"cHRM", b"\0"),
        "a cut animation": chunk(b"acTL", b"\0"),
        "a cut transparent colour": chunk(b"tRNS", b"\0\0"),
        "broken EXIF": chunk(b"eXIf", b"garbage"),
        "EXIF with the name of a JPEG segment": chunk(b"eXIf", b"Exif\0\0" + exif(6)),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    }
    files = {f"png with {name}": png(picture, 2, 8, before=[content]) for name, content in chunks.items()}
    late = chunk(b"tRNS", struct.pack(">3H", *picture[0, 0])) + chunk(b"eXIf", exif(6)) + chunk(b"IEND", b"")
    files["png with what comes too late"] = png(picture, 2, 8).replace(chunk(b"IEND", b""), late)
    smooth = photograph()
    plain = encoded(smooth, "JPEG", quality=95)
    files |= {
        "png with two million letters": encoded(smooth, "PNG", pnginfo=text),
        "jpeg with XMP": encoded(smooth, "JPEG", xmp=XMP),
        "jpeg with a profile that is none": encoded(smooth, "JPEG", icc_profile=b"garbage"),
        "jpeg with a cut Adobe segment": plain[:2] + b"\xff\xee\0\x07Adobe" + plain[2:],
        "jpeg with broken lists of images": plain[:2]
        + b"\xff\xe2\0\x1aMPF\0II*\0\x08\0\0\0"
        + b"\xff" * 12
        + plain[2:],
        "webp with EXIF": encoded(smooth, "WEBP", lossless=True, exif=b"Exif\0\0" + exif(6)),
        "webp with XMP": encoded(smooth, "WEBP", lossless=True, xmp=XMP),
        "webp with a profile that is none": encoded(smooth, "WEBP", lossless=True, icc_profile=b"garbage"),
    }
    return files


def photograph() -> Image.Image:
    down, along = np.mgrid[0:48, 0:64]
    return Image.fromarray(np.stack([along * 4, down * 5, (along + down) * 2], axis=-1).astype(np.uint8))


def lossy_files() -> Files:
    smooth = photograph()
    files = {f"jpeg subsampled {n}": encoded(smooth, "JPEG", quality=90, subsampling=n) for n in range(3)}
    files |= {f"jpeg {mode}": encoded(smooth.convert(mode), "JPEG", quality=90) for mode in ("L", "CMYK")}
    files |= {f"jpeg turned {n}": encoded(smooth, "JPEG", exif=b"Exif\0\0" + exif(n)) for n in range(1, 10)}
    files |= {f"avif turned {n}": encoded(smooth, "AVIF", exif=b"Exif\0\0" + exif(n)) for n in (1, 2, 3, 6, 8)}
    inks = encoded(smooth.convert("CMYK"), "JPEG", subsampling=0)
    files |= {
        "jpeg progressive": encoded(smooth, "JPEG", progressive=True),
        "jpeg RGB": encoded(smooth, "JPEG", keep_rgb=True),
        "jpeg YCCK": inks.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"),
        "jpeg of several": encoded(smooth, "MPO", save_all=True, append_images=[smooth.rotate(180)]),
        "webp lossy": encoded(smooth, "WEBP"),
    }
    return files


def other_files() -> Files:
    palette = [tuple(colour) for colour in RNG.integers(1, 256, (8, 3)).tolist()]
    indices = samples(3, 1)[..., 0]
    opaque, glassy = (Image.fromarray(samples(8, n).astype(np.uint8)) for n in (3, 4))
    files = {
        "gif": gif(indices, palette),
        "gif interlaced": gif(indices, palette, interlaced=True),
        "gif transparent": gif(indices, palette, transparent=1),
        "gif of its own palette": gif(indices, palette, local=True, transparent=7),
        "gif smaller than its screen": gif(indices, palette, screen=(12, 10), place=(2, 3)),
        "gif smaller, transparent": gif(
            indices, palette, screen=(12, 10), place=(2, 3), transparent=0, interlaced=True
        ),
        "gif larger than its screen": gif(indices, palette, place=(2, 3)),
        "gif of grey": gif(samples(8, 1)[..., 0], [(n, n, n) for n in range(256)], transparent=255),
        "gif moving": gif(indices, palette, more=gif(7 - indices, palette, transparent=0)[-100:-1]),
        "webp lossless": encoded(opaque, "WEBP", lossless=True),
        "webp transparent": encoded(glassy, "WEBP", lossless=True, exact=True),
        "webp moving": animated_webp(opaque, (12, 10), (2, 4), alpha=False),
        "webp moving, transparent": animated_webp(glassy, (12, 10), (2, 4), alpha=True),
        "png turned": png(samples(8, 3), 2, 8, before=[chunk(b"eXIf", exif(6))]),
        "png turned, transparent": png(samples(8, 4), 6, 8, before=[chunk(b"eXIf", exif(5))]),
    }
    size, four = (WIDTH, HEIGHT), [row.tobytes() for row in samples(8, 4).astype(np.uint8)]
    two, masks = [row.astype("<u2").tobytes() for row in samples(16, 1)], (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    files |= {
        "bmp of 24 bits": bmp([row[: 3 * WIDTH] for row in four], size, 24),
        "bmp from the top": bmp([row[: 3 * WIDTH] for row in four], size, 24, from_top=True),
        "bmp of 32 bits": bmp(four, size, 32),
        "bmp with alpha": bmp(four, size, 32, header=108, compression=3, masks=masks),
        "bmp with alpha by its masks alone": bmp(four, size, 32, header=124, masks=masks),
        "bmp of 555 bits": bmp(two, size, 16),
        "bmp of 565 bits": bmp(two, size, 16, compression=3, masks=(0xF800, 0x7E0, 0x1F, 0)),
    }
    for bits in (1, 4, 8):
        colours = b"".join(bytes((*colour, 0)) for colour in RNG.integers(0, 256, (1 << bits, 3)).tolist())
        rows = [packed(row.reshape(-1), bits) for row in samples(bits, 1)]
        files[f"bmp palette of {bits} bits"] = bmp(rows, size, bits, palette=colours)
    return files


@needs_chromium
def test_pixels_are_what_a_browser_shows() -> None:
    """To the level without loss and for JPEG; two levels where halves are rounded, three for decoders of AVIF."""
    files = png_files() | metadata_files() | lossy_files() | other_files()
    assert len(files) >= 110
    addresses = (
        f"data:image/{name.split()[0]};base64,{base64.b64encode(data).decode()}" for name, data in files.items()
    )
    with quiet_page() as page:
        drawn = page.evaluate(DRAWN, [*addresses])
    wrong = dict[str, object]()
    for (name, data), (width, height, *values) in zip(files.items(), drawn, strict=True):
        shown = np.array(values).reshape(height, width, 4)[..., :3]
        seen = np.asarray(open_image(Encoded(data, name))).astype(int)
        allowed = 3 if name.startswith("avif") else 2
        if seen.shape != shown.shape or (off := np.abs(seen - shown).max()) > allowed:
            wrong[name] = (seen.shape, shown.shape) if seen.shape != shown.shape else int(off)
    assert not wrong


def same_picture(values: np.ndarray, bits: int, meaning: int) -> Encoded:
    """The PNG file, in 8 bits, of samples of a TIFF file."""
    levels = np.round(values * (255 / ((1 << bits) - 1))).astype(np.int64)
    levels = 255 - levels if meaning == 0 else levels
    if meaning == 5:
        levels = np.round((255 - levels[..., :3]) * (255 - levels[..., 3:]) / 255).astype(np.int64)
    return Encoded(png(levels, {1: 0, 2: 4, 3: 2, 4: 6}[levels.shape[2]], 8), "the same as PNG")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("meaning", "bits", "channels", "extra"),
    [
        *((meaning, bits, 1, None) for meaning in (0, 1) for bits in (1, 2, 4, 8, 16)),
        (1, 8, 2, 2),
        (2, 8, 3, None),
        (2, 16, 3, None),
        (2, 8, 4, 2),
        (2, 16, 4, 2),
        (5, 8, 4, None),
    ],
)
def test_a_tiff_is_read_right_or_refused_by_its_layout(
    meaning: int, bits: int, channels: int, extra: int | None, order: str
) -> None:
    values = samples(bits, channels)
    expected = np.asarray(open_image(same_picture(values, bits, meaning))).astype(int)
    read = 0
    for planar, compression, tile in itertools.product((1, 2), (1, 8), (None, 16)):
        options = {"order": order, "compression": compression, "tile": tile, "planar": planar}
        data = tiff(values, meaning, bits, tags={338: [extra]} if extra else {}, **options)
        try:
            seen = np.asarray(open_image(Encoded(data, "a.tiff")))
        except ImageError as error:
            refused = at("a.tiff", found=f"a TIFF of photometric interpretation {meaning}", cure="save it as PNG")
            assert refused(error)  # noqa: PT017
            continue
        assert np.abs(seen - expected).max() <= 2, options
        read += 1
    assert read >= 4 or (meaning, bits, order) == (0, 16, ">")
