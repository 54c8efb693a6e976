"""The quick way to the encoder's pixels against the plain one: whole image, resize, crop."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adios_zoo import load_model
from adios_zoo.features.decoding import read_pixels
from adios_zoo.images.image import ImageError, ImageRef, encoded_ref, file_ref, pixels_ref, read_image
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import Pixels, crop, make_transform, normalise
from tests.conftest import DATA
from tests.small_models import small_card

PHOTOS = DATA / "photos"


def picture(width: int = 330, height: int = 250) -> Image.Image:
    """Soft shapes of many colours, with nothing symmetric in it."""
    rng = np.random.default_rng(width)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def both(data: bytes, card: Card) -> tuple[Pixels, Pixels]:
    ref = encoded_ref("a", data)
    return read_pixels(ref, card), crop(card, ref.read())


CARDS = {
    "scaled": small_card(),  # 330x250 is decoded at half its size for 32 pixels
    "whole": small_card(input_size=160, crop_pct=0.9),
    "squashed": small_card(crop_mode="squash"),
    "cut out": small_card(input_size=96, crop_pct=0.375, interpolation="bicubic"),
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs(card: Card, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found, plain = both(saved(picture(), exif=exif, quality=95), card)
    assert found.shape == plain.shape == (card.input_size, card.input_size, 3)
    assert np.abs(found.astype(int) - plain).mean() < 1.5


@pytest.mark.parametrize("size", [(331, 251), (97, 640), (640, 97), (33, 47), (1, 1), (3, 900)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    found, plain = both(saved(picture(*size), quality=95), small_card())
    assert np.abs(found.astype(int) - plain).mean() < 2


KINDS = {
    "grey": saved(picture().convert("L")),
    "CMYK": saved(picture().convert("CMYK")),
    "progressive": saved(picture(), progressive=True),
    "full colour": saved(picture(), subsampling=0),
    "RGB": saved(picture(), keep_rgb=True),
    "PNG": saved(picture(), "PNG"),
    "transparent": saved(picture().convert("RGBA"), "PNG"),
    "WebP": saved(picture(), "WEBP"),
    "16 bits": saved(Image.fromarray(np.arange(250 * 330, dtype=np.uint16).reshape(250, 330)), "PNG"),
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_kinds_of_files(data: bytes) -> None:
    found, plain = both(data, small_card())
    assert np.abs(found.astype(int) - plain).mean() < 1.5


def test_only_what_is_needed_of_a_large_jpeg_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(
        "adios_zoo.features.decoding.to_rgb", lambda image: sizes.append(image.size) or image.convert("RGB")
    )
    read_pixels(encoded_ref("a", saved(picture(1320, 1000))), small_card())  # shorter side to 40, decoded at 80 or more
    assert sizes == [(165, 125)]


def test_images_in_memory_go_the_plain_way() -> None:
    card = small_card()
    assert np.array_equal(read_pixels(pixels_ref("a", picture()), card), crop(card, picture()))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"words", "not an image"),
        (saved(picture())[:2000], "truncated"),
        (b"\xff\xd8\xff", "not an image"),
    ],
)
def test_what_is_wrong_is_said_as_ever(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        read_pixels(encoded_ref("a", data), small_card())


def test_a_truncated_photograph_fails_whatever_other_code_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError, match="truncated"):
        read_pixels(encoded_ref("a", saved(picture())[:2000]), small_card())


def test_a_file_is_read_once(tmp_path: Path) -> None:
    reads = []
    ref = ImageRef("a", lambda: pytest.fail("read twice"), lambda: reads.append(1) or saved(picture()))
    read_pixels(ref, small_card())
    assert reads == [1]


def test_normalised_pixels_are_the_transforms() -> None:
    card = small_card()
    expected = make_transform(card)(picture()).numpy()
    found = normalise(card, crop(card, picture())[None])[0]
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="ADIOS_DATA names no folder with photos/")
def test_features_of_photographs_stay_within_the_cosine() -> None:
    model = load_model("resnet18_tin200")
    paths = sorted(PHOTOS.glob("*.jpg"))

    def features(pixels: list[Pixels]) -> np.ndarray:
        with torch.inference_mode():
            rows = model(torch.from_numpy(normalise(model.card, np.stack(pixels)))).double()
        return torch.nn.functional.normalize(rows).numpy()

    quick = features([read_pixels(file_ref(str(path)), model.card) for path in paths])
    plain = features([crop(model.card, read_image(path)) for path in paths])
    assert (quick * plain).sum(1).min() > 0.999
