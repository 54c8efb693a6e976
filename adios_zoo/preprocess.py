"""What a card says about pixels, as a transform: PIL image -> normalised tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

from PIL import Image

from adios_zoo.images import to_rgb
from adios_zoo.model_card import Card

if TYPE_CHECKING:
    from torch import Tensor

Transform: TypeAlias = "Callable[[Image.Image], Tensor]"


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
    return cast("Transform", transforms.Compose([to_rgb, *timms.transforms]))
