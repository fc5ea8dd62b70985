"""Preprocessing: known answers of the official transform, every kind of image, both routes."""

from __future__ import annotations

import contextlib
import io
import struct
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.functional import normalize

from error_fields import at
from hpskit.errors import ImageError, InputError
from hpskit.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    Encoded,
    Preprocessing,
    as_float,
    as_pixels,
    check_head,
    images,
    open_image,
    opened,
    preprocess,
    to_image,
    to_tensor,
)
from hpskit.pixels.statistics import PLANE, ChromaDensity, lab_to_srgb, srgb_to_lab
from image_files import XMP, bmp, chunk, encoded, tiff

LETTERBOX = Preprocessing()


def test_crop_is_torchvisions(photographs: list[Image.Image]) -> None:
    crop = Preprocessing(resize="crop", size=97)
    for photograph in (photographs[0], photographs[1].rotate(90, expand=True), photographs[0].resize((97, 97))):
        tensor = to_tensor(photograph)
        theirs = CenterCrop(97)(Resize(97, InterpolationMode.BICUBIC, antialias=True)(tensor))
        assert torch.allclose(crop(tensor), normalize(theirs, CLIP_MEAN, CLIP_STD), atol=1e-6)


def by_pillow(image: Image.Image, size: int, kind: Image.Resampling) -> np.ndarray:
    """Shortest side to `size`, horizontally first, as Pillow before 13 does in one call."""
    width, height = image.size
    short = min(width, height)
    new = (int(size * width / short), int(size * height / short))
    return np.asarray(image.resize((new[0], height), kind).resize(new, kind))


def test_resizing_by_pillow_is_pillows_to_the_last_bit(photographs: list[Image.Image]) -> None:
    tall = photographs[0].rotate(90, expand=True).crop((40, 0, 300, 640))  # which Pillow 13 would begin vertically
    for image in (*photographs, tall, photographs[1].crop((5, 5, 65, 75)), photographs[0].resize((97, 97))):
        for name, kind in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
            crop = Preprocessing(resize="crop", size=97, pillow=True, interpolation=name)  # type: ignore[arg-type]
            levels = torch.from_numpy(by_pillow(image, 97, kind).copy()).permute(2, 0, 1).float().div(255)
            theirs = normalize(CenterCrop(97)(levels), CLIP_MEAN, CLIP_STD)
            tensor = to_tensor(image)
            assert torch.equal(crop(tensor), theirs)
            assert torch.equal(crop(tensor.requires_grad_(True)), theirs)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.sampled_from(["bicubic", "bilinear"]))
def test_pillow_with_and_without_a_gradient(height: int, width: int, size: int, kind: str) -> None:
    tensor = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height * width))
    squash = Preprocessing(resize="squash", size=size, pillow=True, interpolation=kind)  # type: ignore[arg-type]
    assert torch.equal(squash(tensor), squash(tensor.clone().requires_grad_(True)).detach())


def test_the_gradient_passes_through_the_rounding() -> None:
    """It is that of the interpolation without the rounding, where nothing is cut off at 0 or 1."""
    tensor = torch.rand(1, 3, 60, 50, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    direction = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    gradients = []
    for pillow in (True, False):
        x = tensor.clone().requires_grad_(True)
        (Preprocessing(resize="crop", size=20, pillow=pillow)(x) * direction).sum().backward()
        gradients.append(x.grad)
    assert torch.allclose(*gradients, atol=1e-5)
    assert gradients[0].abs().max() > 0.01


def test_half_a_pixel_of_margin() -> None:
    """Of 23 rows 20 are kept: torchvision leaves out 2 above, transformers 1."""
    ramp = torch.linspace(0, 1, 23)[None, :, None].expand(3, 23, 20)
    rows = {
        name: Preprocessing(resize=name, size=20, pillow=True, mean=(0, 0, 0), std=(1, 1, 1))(ramp)[0, 0, 0]
        for name in ("crop", "crop-floor")
    }
    assert rows == {"crop": pytest.approx(2 / 22), "crop-floor": pytest.approx(1 / 22)}


def test_a_crop_of_something_endless_is_refused() -> None:
    crop = Preprocessing(resize="crop", size=20, pillow=True)
    assert crop(torch.rand(3, 2, 200)).shape == (3, 20, 20)
    with pytest.raises(ImageError, check=at("image", found="is 203x2 pixels", expected="100:1")):
        crop(torch.rand(3, 2, 203))


def test_names_tell_preprocessings_apart() -> None:
    variants = [
        Preprocessing(),
        Preprocessing(antialias=False),
        Preprocessing(size=336),
        Preprocessing(resize="crop"),
        Preprocessing(resize="crop-floor"),
        Preprocessing(pillow=True),
        Preprocessing(interpolation="bilinear"),
        Preprocessing(mean=(0.5, 0.5, 0.5)),
    ]
    assert LETTERBOX.name == "letterbox-224-bicubic-antialias"
    assert len({variant.name for variant in variants}) == len(variants)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60), st.just(3))))
def test_both_routes_agree_on_any_image(array: np.ndarray) -> None:
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    small = Preprocessing(size=32)
    pixels = as_pixels(tensor[None], dimensions=4, layout="NCHW")
    from_file, from_tensor = small(to_tensor(Image.fromarray(array))), small(pixels)
    assert torch.equal(from_file, from_tensor[0])
    assert from_file.shape == (3, 32, 32)
    assert from_file.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20_000, 1), (20_000, 30), (1, 20_000), (224, 100), (223, 224)])
def test_any_proportion_works(size: tuple[int, int]) -> None:
    tensor = LETTERBOX(to_tensor(Image.new("RGB", size, (200, 30, 90))))
    assert tensor.shape == (3, 224, 224)
    colour = normalize(torch.tensor([200, 30, 90]).view(3, 1, 1) / 255, CLIP_MEAN, CLIP_STD)
    assert torch.allclose(tensor[:, 111:112, 111:112], colour, atol=1e-4)  # the image is in the middle


def grey16(mode: str) -> Image.Image:
    values = np.array([[0, 257 * 100, 65535]], dtype=">u2" if mode == "I;16B" else "<u2")
    return Image.frombytes(mode, (3, 1), values.tobytes())


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (1, 1), 77), [(77, 77, 77)]),
        (Image.new("1", (1, 1), 1), [(255, 255, 255)]),
        (Image.new("P", (1, 1), 0), [(0, 0, 0)]),
        (Image.new("CMYK", (1, 1), (255, 0, 0, 0)), [(0, 255, 255)]),
        (Image.new("RGBA", (1, 1), (10, 20, 30, 0)), [(255, 255, 255)]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 51)), [(204, 204, 204)]),
        (Image.new("RGBA", (1, 1), (10, 20, 30, 255)), [(10, 20, 30)]),
        (Image.new("LA", (1, 1), (9, 0)), [(255, 255, 255)]),
        (grey16("I;16"), [(0, 0, 0), (100, 100, 100), (255, 255, 255)]),
        (grey16("I;16B"), [(0, 0, 0), (100, 100, 100), (255, 255, 255)]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: list[tuple[int, int, int]]) -> None:
    opened = open_image(image)
    assert opened.mode == "RGB"
    assert [tuple(row) for row in np.asarray(opened)[0].tolist()] == expected


def test_exif_orientation_is_applied(tmp_path: Path, photographs: list[Image.Image]) -> None:
    upright = photographs[0].crop((0, 0, 60, 40))
    for orientation, undo in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright.transpose(undo).save(tmp_path / "a.png", exif=exif)
        assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), np.asarray(upright))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty (0 bytes)"),
        (b"just some text", "just some text"),
        (b"<!DOCTYPE html><html>404</html>", "starts like a web page"),
        (png_header(30_000, 30_000), "is 30000x30000 pixels"),
        (png_header(200, 200), "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, ""),
        (b"GIF89a\x01\x00", ""),
        (b"P6\n4\xff 4\n255\n" + bytes(48), "cannot be decoded"),  # int() of Pillow cannot read it
    ],
    ids=["empty", "text", "html", "bomb", "hollow png", "broken png", "cut gif", "odd ppm"],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, check=at(path, found=found)) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)
    if found != "cannot be decoded" or content.startswith(b"P6"):
        with pytest.raises(ImageError, check=at(path)):
            check_head(path)


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("format_", ["jpeg", "png", "webp", "gif", "bmp", "tiff"])
def test_truncated_files_are_refused(
    photographs: list[Image.Image], format_: str, trusting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a program that has told Pillow to make up what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", trusting)
    data = encoded(photographs[0].resize((96, 64)), format_)
    assert open_image(Encoded(data, "whole")).size == (96, 64)
    for share in (0.02, 0.3, 0.7, 0.95):
        with pytest.raises(ImageError, check=at("cut")):
            open_image(Encoded(data[: int(len(data) * share)], "cut"))
    if format_ == "png":
        damaged = bytearray(data)
        damaged[len(data) // 2] ^= 0x10
        with pytest.raises(ImageError, check=at("damaged")):
            open_image(Encoded(bytes(damaged), "damaged"))


def test_no_flipped_bit_of_a_png_changes_its_pixels() -> None:
    """Its checksums tell; Pillow asks for none of the pixels, and some streams with a flipped bit can be read."""
    data = encoded(Image.effect_noise((9, 9), 80), "png")
    whole, accepted = open_image(Encoded(data, "whole")), 0
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ImageError):
            assert open_image(Encoded(bytes(damaged), "damaged")) == whole
            accepted += 1
    assert accepted <= 1  # that which turns IEND into a chunk that nobody needs


DAMAGED = encoded(Image.effect_noise((40, 30), 80), "jpeg")


@given(st.integers(0, 10**9), st.integers(0, 255))
def test_damage_never_escapes_as_another_error(position: int, value: int) -> None:
    """A flipped byte decodes to something or is an ImageError, whatever Pillow raises."""
    data = bytearray(DAMAGED)
    data[position % len(data)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(data)
        try:
            image = open_image(path)
        except ImageError:
            return
        assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("nope.png", at(found="No such file or directory")),
        (".", at(found="is a directory")),
        ("http://example.org/a.png", at(found="is an address")),
        ("a\0b.png", at(found="is not the name of a file")),
        ("a\ud800.png", at(found="is not the name of a file")),
        (3, at(found="is of type int")),
        (Image.new("I", (2, 2)), at(found="mode 'I'")),
        (Image.new("F", (2, 2)), at(found="mode 'F'")),
        (torch.zeros(4, 5, 5), at(found="has shape (4, 5, 5)")),
        (torch.zeros(3, 0, 5), at(found="has shape (3, 0, 5)")),
        (torch.zeros(3, 5, 3), at("image tensor", found="first or last", cure="layout='NHWC'")),
        (torch.zeros(3, 5, 5, dtype=torch.int64), at(found="is of torch.int64", cure="uint8")),
        (np.zeros((5, 5, 3), np.uint16), at(found="is of uint16", cure="uint8")),
        (torch.tensor([1.0131, 0.5, 0.5]).reshape(3, 1, 1), at(found="to 1.0131", cure="images.clamp(0, 1)")),
        (torch.tensor([-0.9, 0.5, 0.5]).reshape(3, 1, 1), at(found="from -0.9", cure="value_range=(-1, 1)")),
        (torch.full((3, 5, 5), -1.0), at(found="from -1 to -1")),
        (torch.full((3, 5, 5), 255.0), at("image tensor", cure="[0, 255] by x / 255")),
        (torch.full((3, 5, 5), float("nan")), at(found="nan")),
    ],
)
def test_what_is_no_image_is_refused(source: Any, where: Any) -> None:
    with pytest.raises(InputError, check=where):
        to_tensor(source)


ARRAY = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (ARRAY, {}),
        (ARRAY.transpose(0, 3, 1, 2), {}),
        (torch.from_numpy(ARRAY).permute(0, 3, 1, 2), {}),
        (np.asfortranarray(ARRAY)[:, ::-1][:, ::-1], {"layout": "NHWC"}),
        ((ARRAY / 255).astype(">f8"), {}),
        (torch.from_numpy(ARRAY / 127.5 - 1), {"value_range": (-1, 1)}),
        (torch.from_numpy(ARRAY / 255).half(), {"layout": "NHWC"}),
    ],
    ids=range(7),
)
def test_arrays_of_every_make_are_the_same_pixels(array: Any, options: Any) -> None:
    expected = torch.from_numpy(ARRAY).permute(0, 3, 1, 2).float() / 255
    found = as_float(as_pixels(array, dimensions=4, **options))
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 1e-3
    one = as_float(as_pixels(array[0], dimensions=3, **options))
    assert torch.equal(one, found[0])
    assert np.array_equal(np.array(to_image(found[0])), ARRAY[0])


@pytest.mark.parametrize(
    ("shape", "options", "where"),
    [
        ((2, 3, 8, 3), {}, at(found="(2, 3, 8, 3)", cure="layout=")),
        ((2, 3, 8, 8), {"layout": "NHWC"}, at(found="(2, 3, 8, 8)", expected="NHWC with 3 for C")),
        ((2, 8, 8, 4), {}, at(found="(2, 8, 8, 4)", expected="(N, H, W, 3)", cure="RGB")),
        ((2, 8, 3), {}, at(found="(2, 8, 3)", expected="(N, 3, H, W)")),
        ((2, 3, 8, 8), {"layout": "CHW"}, at("layout", expected="NCHW or NHWC")),
        ((2, 3, 8, 8), {"value_range": (0, 255)}, at("value_range", expected="(0, 1) or (-1, 1)")),
        ((2, 3, 8, 8), {"value_range": (-1, 1)}, at("value_range", found="uint8")),
    ],
    ids=range(7),
)
def test_nothing_about_arrays_is_guessed(shape: Any, options: Any, where: Any) -> None:
    with pytest.raises(InputError, check=where):
        as_pixels(np.zeros(shape, np.uint8), dimensions=4, **options)
    both = as_pixels(np.zeros((2, 3, 8, 3), np.uint8), dimensions=4, layout="NHWC")
    assert both.shape == (2, 3, 3, 8)


def test_gradients_reach_the_pixels() -> None:
    pixels = torch.rand(2, 3, 40, 30, dtype=torch.float64, requires_grad=True)
    small = Preprocessing(size=8)
    assert torch.autograd.gradcheck(small, (pixels,), atol=1e-6, fast_mode=True)


# Objects of Pillow, foreign formats, layouts that Pillow misreads


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P", "PA", "LA", "La", "RGBA", "RGBa"])
def test_an_object_is_the_pixels_that_it_holds(mode: str) -> None:
    """A transparent colour that Pillow has left behind is none; in a palette it is one."""
    image = Image.new(mode, (2, 1))
    plain = np.asarray(open_image(image))
    assert plain.mean() == (255 if mode in ("PA", "LA", "La", "RGBA", "RGBa") else 0)
    image.info |= {"transparency": (0, 0, 0) if mode == "RGB" else 0, "xmp": XMP, "exif": b"garbage"}
    assert np.array_equal(np.asarray(open_image(image)), plain if mode != "P" else 255 - plain)


def test_what_converting_leaves_behind_changes_no_pixel(tmp_path: Path) -> None:
    palette = Image.new("P", (3, 1), 0)
    palette.putpalette([0, 0, 0, 0, 0, 0, 200, 50, 25])
    palette.putdata([0, 1, 2])
    palette.save(tmp_path / "a.png", transparency=0)
    stored = Image.open(tmp_path / "a.png")
    assert np.asarray(open_image(stored)).tolist() == [[[255] * 3, [0] * 3, [200, 50, 25]]]
    assert np.asarray(open_image(stored.convert("RGB"))).tolist() == [[[0] * 3, [0] * 3, [200, 50, 25]]]
    assert (
        np.asarray(open_image(stored.convert("L"))).tolist() == np.asarray(stored.convert("L").convert("RGB")).tolist()
    )


def test_no_program_is_started_for_an_image() -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    page = encoded(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(ImageError, check=at("photo.jpg", found="is not an image", expected="JPEG, PNG")):
        open_image(Encoded(page, "photo.jpg"))
    with pytest.raises(ImageError, check=at("PIL image", found="EPS", cure="load()")):
        open_image(Image.open(io.BytesIO(page)))
    icon = Image.open(io.BytesIO(encoded(Image.new("RGB", (16, 16), (9, 8, 7)), "ICO")))
    icon.load()
    assert open_image(icon).getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize(
    ("values", "meaning", "bits", "tags", "found"),
    [
        ([[7]], 1, 16, {339: [2]}, "no unsigned numbers"),
        ([[7, 7, 7]], 8, 8, {}, "CIELAB"),
        ([[7, 7, 7]], 6, 8, {}, "YCbCr"),
        ([[7]], 1, 8, {254: [1]}, "a preview"),
        ([[7]], 3, 1, {320: [1, 2, 3, 4, 5, 6]}, "a palette of 8 bits"),
        ([[7, 7, 7]], 2, 4, {}, "3 samples of 4 bits"),
        ([[7]], 1, 32, {}, "mode 'I'"),
    ],
)
def test_a_layout_that_is_misread_is_refused_by_name(
    values: list[list[int]], meaning: int, bits: int, tags: dict[int, list[int]], found: str
) -> None:
    data = tiff(np.array([values]), meaning, bits, tags=tags)
    with pytest.raises(ImageError, check=at("a.tiff", found=found)):
        open_image(Encoded(data, "a.tiff"))


def test_a_bmp_that_is_misread_is_refused_by_name() -> None:
    for bits, options, found in (
        (8, {"compression": 1}, "run lengths"),
        (16, {"compression": 3, "header": 108, "masks": (0x7C00, 0x3E0, 0x1F, 0x8000)}, "transparency"),
        (32, {"compression": 3, "header": 108}, "no bits"),
    ):
        with pytest.raises(ImageError, check=at("a.bmp", found=found, cure="save it as PNG")):
            open_image(Encoded(bmp([bytes(8)], (2, 1), bits, **options), "a.bmp"))


@pytest.mark.parametrize("top", [15, 4095, 65535])
def test_levels_of_a_pgm_have_a_range(top: int) -> None:
    kind = ">u2" if top > 255 else "u1"
    data = b"P5 3 1 %d\n" % top + np.array([0, top // 5, top], kind).tobytes()
    assert np.asarray(open_image(Encoded(data, "a.pgm")))[0, :, 0].tolist() == [0, 51, 255]


def test_tags_of_a_tiff_that_are_not_needed_are_not_read() -> None:
    """Neither does orientation in XMP turn it, nor broken EXIF refuse it."""
    values = np.arange(24).reshape(4, 6, 1)
    data = tiff(values, 1, 8, tags={700: [*XMP], 34665: [65_000], 274: [3]})
    assert np.array_equal(np.asarray(open_image(Encoded(data, "a.tiff")))[..., 0], values[::-1, ::-1, 0])


# Memory


def test_images_share_a_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no room waits for those before to leave."""
    monkeypatch.setattr(images, "_ROOM", images._Room())
    monkeypatch.setattr(images._ROOM, "_free", 150)
    inside, order = threading.Event(), list[str]()

    def second() -> None:
        with opened(Image.new("L", (10, 10))):
            order.append("second")

    with opened(Image.new("L", (10, 10))):
        thread = threading.Thread(target=second)
        thread.start()
        with opened(Image.new("L", (5, 10))):
            inside.wait(0.1)
            order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert images._ROOM._free == 150


def test_too_large_images(photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG is decoded at a fraction of its size, which hardly shows in what a network sees; others are refused."""
    small, whole = Preprocessing(size=64), encoded(photographs[0], "jpeg")
    before = small(to_tensor(Encoded(whole, "a")))
    monkeypatch.setattr(images, "LARGEST", 100_000)
    image = open_image(Encoded(whole, "a"))
    assert image.size == (320, 214)
    assert (small(image) - before).abs().mean() < 0.02
    late = encoded(photographs[0], "jpeg", progressive=True)  # of which libjpeg holds every coefficient
    for data in (late, encoded(photographs[0], "png"), encoded(photographs[0], "webp")):
        with pytest.raises(ImageError, check=at("a", found="is 640x427 pixels", expected="100,000", cure="scale it")):
            open_image(Encoded(data, "a"))
    with pytest.raises(ImageError, check=at("PIL image", found="is 640x427 pixels")):
        open_image(photographs[0])
    with pytest.raises(ImageError, check=at("PIL image", expected="65,535 a side")):
        open_image(Image.new("1", (70_000, 1)))


@pytest.mark.parametrize("resize", ["letterbox", "crop", "squash"])
@pytest.mark.parametrize("how", [{}, {"antialias": False}, {"pillow": True}], ids=str)
def test_a_large_image_in_strips_is_the_whole_image(
    photographs: list[Image.Image], resize: str, how: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Preprocessing(resize=resize, size=50, **how)  # type: ignore[arg-type]
    clear = photographs[0].convert("RGBA")
    clear.putalpha(photographs[1].convert("L"))
    whole = prepare(to_tensor(clear))
    monkeypatch.setattr(images, "_STRIP", 10_000)
    monkeypatch.setattr(preprocess, "_AT_ONCE", 10_000)
    assert torch.equal(prepare(open_image(clear)), whole)


def test_too_little_memory_is_said() -> None:
    with pytest.raises(ImageError, check=at("PIL image", found="memory")), opened(Image.new("L", (1, 1))):
        torch.empty(10**15)


# Colours


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # as colour references print them: sRGB under D65, 2 degrees
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((128, 128, 128), (53.585, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((255, 255, 0), (97.14, -21.55, 94.48)),
        ((0, 255, 255), (91.11, -48.09, -14.13)),
        ((255, 0, 255), (60.32, 98.23, -60.82)),
    ],
)
def test_published_values(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    assert srgb_to_lab(np.array(rgb, np.uint8)) == pytest.approx(np.array(lab), abs=0.02)  # they round the matrix


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_there_and_back_and_inside_the_plane(rgb: tuple[int, int, int]) -> None:
    pixel = np.array(rgb, np.uint8)
    lab = srgb_to_lab(pixel)
    assert (lab_to_srgb(lab) == pixel).all()
    bin_number = int(PLANE.bins(*lab[1:]))
    assert np.abs(PLANE.centres[bin_number] - lab[1:]).max() <= PLANE.width / 2


def test_an_image_of_one_colour_is_one_bin() -> None:
    orange = np.full((6, 9, 3), (255, 128, 0), np.uint8)
    found = ChromaDensity.of(orange)
    lightness, a, b = srgb_to_lab(orange[0, 0])
    coarse = PLANE.coarser(found.fine)
    assert coarse.argmax() == PLANE.bins(np.array(a), np.array(b))
    assert coarse.max() == pytest.approx(1)
    assert found.light.sum() == pytest.approx(lightness, rel=1e-6)
    assert found.chroma == pytest.approx(np.hypot(a, b))
    assert found.vivid == 1
    black = ChromaDensity.of(np.zeros((2, 2, 3), np.uint8))
    assert (black.chroma, black.saturation, black.vivid) == pytest.approx((0, 0, 0))
