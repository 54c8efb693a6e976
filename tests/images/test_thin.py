"""Images that are far longer than wide take little memory, and the crop is that of the plain way."""

from __future__ import annotations

import numpy as np
import pytest
from adios_zoo.train.data.in_memory import _square
from PIL import Image

from adios_zoo.images.thin import middle
from adios_zoo.models.preprocess import as_pixels, crop, crop_start, make_transform, resampling, resized_size
from tests.small_models import small_card


def strip(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_a_million_pixels_in_a_line(size: tuple[int, int]) -> None:
    image = strip(*size)
    card = small_card(input_size=224)
    assert max(middle(image).size) <= 17  # else 19 GB and more
    assert crop(card, image).shape == (224, 224, 3)
    assert make_transform(card)(image).shape == (3, 224, 224)
    assert _square(image, 64).shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(3, 60), (61, 3), (5, 400), (90, 80)])
def test_the_crop_is_that_of_the_whole_image(size: tuple[int, int]) -> None:
    card, image = small_card(), strip(*size)
    whole = resized_size(card, *size)
    left, top = (crop_start(card, side) for side in whole)
    side = card.input_size
    plain = as_pixels(image.resize(whole, resampling(card)).crop((left, top, left + side, top + side)))
    difference = np.abs(plain.astype(int) - crop(card, image))
    assert difference.mean() < 2


def test_other_images_are_left_alone() -> None:
    image = strip(16, 256)
    assert middle(image) is image
