"""What a card says about pixels: resize, crop and normalisation of an image, as arrays and as a torch transform."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.images.rgb import to_rgb
from adios_zoo.images.thin import middle
from adios_zoo.models.card import Card

if TYPE_CHECKING:
    from torch import Tensor

Transform: TypeAlias = "Callable[[Image.Image], Tensor]"
Pixels: TypeAlias = "NDArray[np.uint8]"
Floats: TypeAlias = "NDArray[np.float32]"


def resized_size(card: Card, width: int, height: int) -> tuple[int, int]:
    """Width and height that an image is resized to before the crop, in pixels."""
    scaled = math.floor(card.input_size / card.crop_pct)
    if card.crop_mode == "squash":
        return scaled, scaled
    shorter = min(width, height)
    return int(scaled * width / shorter), int(scaled * height / shorter)


def crop_start(card: Card, side: int) -> int:
    """First pixel of the central crop along a side of the resized image."""
    return round((side - card.input_size) / 2)


def resampling(card: Card) -> Image.Resampling:
    """Pillow's name for the card's interpolation."""
    return Image.Resampling[card.interpolation.upper()]


def crop(card: Card, image: Image.Image) -> Pixels:
    """An RGB image resized and cropped as the card says, (S, S, 3) uint8."""
    image = image if card.crop_mode == "squash" else middle(image)
    size = resized_size(card, *image.size)
    left, top = (crop_start(card, side) for side in size)
    return as_pixels(
        image.resize(size, resampling(card)).crop((left, top, left + card.input_size, top + card.input_size))
    )


def as_pixels(image: Image.Image) -> Pixels:
    """An RGB image as an array (H, W, 3) of its own memory."""
    return np.array(image, np.uint8)


def scale_and_shift(card: Card) -> tuple[Floats, Floats]:
    """Factors and terms (3,) by which pixel values 0..255 become what the encoder takes: ``pixels * a + b``."""
    mean, std = np.array(card.mean, np.float64), np.array(card.std, np.float64)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def normalise(card: Card, pixels: Pixels) -> Floats:
    """Images (B, S, S, 3) uint8 as the encoder takes them, (B, 3, S, S) float32."""
    scale, shift = (v[:, None, None] for v in scale_and_shift(card))
    values: Floats = np.multiply(pixels.transpose(0, 3, 1, 2), scale, dtype=np.float32, order="C")
    values += shift
    return values


def make_transform(card: Card) -> Transform:
    """The card's evaluation transform: a PIL image of any mode and size -> (3, S, S) float32.

    Upright and in RGB; resized to ``floor(input_size / crop_pct)`` (shorter side, or both sides when the card
    squashes), centre crop, values in [0, 1], mean and standard deviation.
    """
    from timm.data.transforms_factory import create_transform
    from torchvision import transforms

    timms = create_transform(
        input_size=(3, card.input_size, card.input_size),
        is_training=False,
        interpolation=card.interpolation,
        mean=card.mean,
        std=card.std,
        crop_pct=card.crop_pct,
        crop_mode=card.crop_mode,
    )
    cut = [] if card.crop_mode == "squash" else [middle]
    return cast("Transform", transforms.Compose([to_rgb, *cut, *timms.transforms]))
