from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError, read_image
from adios_zoo.images.rgb import to_rgb
from adios_zoo.sources.open import open_images

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))


def png16(array: np.ndarray, colour_type: int) -> bytes:
    """Write a 16-bit PNG, which Pillow itself can do for grey alone."""
    height, width = array.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(image: Image.Image) -> np.ndarray:
    values = pixels(image).astype(int)
    assert (values[..., 0] == values[..., 1]).all()
    assert (values[..., 0] == values[..., 2]).all()
    return values[..., 0]


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP),
        Image.fromarray(RAMP.astype(np.uint16) * 257),
        Image.fromarray(RAMP.astype(np.int32) * 257),
        Image.fromarray(RAMP.astype(np.float32) / 255),
        Image.fromarray(RAMP.astype(np.float32)),
        Image.fromarray(RAMP.astype(np.float32) * 257),
        Image.merge("LA", [Image.fromarray(RAMP), Image.new("L", (256, 4), 255)]),
        Image.merge("RGBA", [Image.fromarray(RAMP)] * 3 + [Image.new("L", (256, 4), 255)]),
        Image.fromarray(RAMP).convert("P"),
    ],
    ids=["L", "I;16", "I", "F-1", "F-255", "F-65535", "LA", "RGBA", "P"],
)
def test_a_grey_ramp_is_the_same_ramp_in_every_mode(image: Image.Image) -> None:
    assert np.abs(grey(to_rgb(image)) - RAMP).max() <= 1


def test_16_bit_files_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp).save(tmp_path / "grey.tif")
    Image.fromarray(ramp).save(tmp_path / "grey.pgm")
    (tmp_path / "rgb.png").write_bytes(png16(np.stack([ramp] * 3, -1), 2))
    opaque = np.full_like(ramp, 65535)
    (tmp_path / "rgba.png").write_bytes(png16(np.stack([ramp, ramp, ramp, opaque], -1), 6))
    (tmp_path / "la.png").write_bytes(png16(np.stack([ramp, opaque], -1), 4))
    for path in sorted(tmp_path.iterdir()):
        assert np.abs(grey(read_image(path)) - RAMP).max() <= 1, path.name


def test_dark_16_bit_stays_dark() -> None:
    assert grey(to_rgb(Image.fromarray(np.full((2, 2), 2570, np.uint16)))).tolist() == [[10, 10], [10, 10]]


@pytest.mark.parametrize("values", [[-1.0, 1.0], [0.0, 70000.0], [0.0, float("nan")]])
def test_floats_without_a_known_range_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="no defined brightness"):
        to_rgb(Image.fromarray(np.array([values], np.float32)))


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(path, tiffinfo={262: 0})
    with Image.open(path) as image:
        assert image.tag_v2[262] == 0
    assert grey(read_image(path)).tolist() == [[255, 0]]


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    rgba.putpixel((1, 0), (200, 0, 0, 0))
    rgba.putpixel((2, 0), (0, 0, 0, 51))
    assert pixels(to_rgb(rgba)).tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]

    la = Image.new("LA", (2, 1), (10, 255))
    la.putpixel((1, 0), (10, 0))
    assert grey(to_rgb(la)).tolist() == [[10, 255]]

    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    for name in ("p.png", "p.gif"):
        palette.save(tmp_path / name, transparency=1)
        assert pixels(read_image(tmp_path / name)).tolist() == [[[255, 0, 0], [255, 255, 255]]], name

    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels(read_image(tmp_path / "key.png")).tolist() == [[[255, 255, 255]]]
    Image.fromarray(np.array([[257, 514]], np.uint16)).save(tmp_path / "key16.png", transparency=514)
    assert grey(read_image(tmp_path / "key16.png")).tolist() == [[1, 255]]


def test_cmyk_one_bit_and_other_spaces(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(pixels(read_image(tmp_path / "cmyk.jpg")).astype(int) - (220, 30, 40)).max() <= 3
    Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.abs(pixels(read_image(tmp_path / "cmyk.tif")).astype(int) - (220, 30, 40)).max() <= 1
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bit.png")
    assert grey(read_image(tmp_path / "bit.png")).tolist() == [[0, 255]]
    for mode in ("YCbCr", "HSV"):
        values = pixels(to_rgb(Image.new("RGB", (2, 2), (220, 30, 40)).convert(mode))).astype(int)
        assert np.abs(values - (220, 30, 40)).max() <= 4, mode


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_puts_every_pixel_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [90, 90, 90], [255, 255, 255]]], "u1")
    # As a camera stores it: the inverse of what the tag asks the viewer to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    assert pixels(read_image(path)).tolist() == upright.tolist()
    assert pixels(to_rgb(read_image(path))).tolist() == upright.tolist()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_pixels_as_stored(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert read_image(tmp_path / "a.jpg").size == (8, 4)


def test_broken_files_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for suffix in ("jpg", "png", "gif", "bmp", "tif", "webp"):
        noise.save(tmp_path / f"cut.{suffix}")
        data = (tmp_path / f"cut.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    noise.resize((400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    expected = {
        "empty.jpg": "empty (0 bytes)",
        "text.jpg": "not an image",
        "folder.jpg": "a folder",
        "pipe.jpg": "not a regular file",
        "bomb.png": "too large to decode safely",
        "missing.jpg": "no such file",
        **{f"cut.{suffix}": "" for suffix in ("jpg", "png", "gif", "bmp", "tif", "webp")},
    }
    for name, why in expected.items():
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert why in caught.value.reason, name
        assert name in str(caught.value)
        assert "\n" not in caught.value.reason


def test_arrays_and_pil_images_are_numbered_by_position() -> None:
    colour = np.zeros((4, 5, 3), np.uint8)
    mixed = [colour, Image.new("L", (5, 4)), colour[..., 0], np.full((4, 5), 65535, np.uint16)]
    refs = list(open_images(mixed))
    assert [ref.id for ref in refs] == ["#0", "#1", "#2", "#3"]
    assert [ref.read().size for ref in refs] == [(5, 4)] * 4
    assert refs[3].read().getpixel((0, 0)) == (255, 255, 255)
    assert len(list(open_images(np.zeros((7, 4, 5, 3), np.uint8)))) == 7
    assert len(list(open_images(colour))) == 1


@pytest.mark.parametrize("item", [np.zeros((4, 5, 3)), np.zeros((3, 4, 5), np.uint8), np.zeros((0, 5), np.uint8), 3])
def test_other_arrays_are_refused(item: object) -> None:
    (ref,) = open_images([item])
    with pytest.raises(ImageError, match="is no image"):
        ref.read()
