"""What is left of an image when a part of it is hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from adios_zoo.errors import ConfigError

from ..chance import Draws, generator_for
from ..random_masks import random_masks

Occlusion = Literal["patches", "block"]
OCCLUSIONS: tuple[Occlusion, ...] = ("patches", "block")

_CELLS = 8  # patches along a side, unless a patch's size is given
GREY = (0.5, 0.5, 0.5)


def occluded(
    images: Tensor,
    share: float,
    *,
    kind: Occlusion = "patches",
    seed: int = 0,
    patch: int | None = None,
    fill: Sequence[float] = GREY,
    first: int = 0,
) -> Tensor:
    """Images with a share of their area hidden.

    What an image loses is decided by the seed and the image's number alone, whatever batch it comes in, and a larger
    share hides what a smaller one does and more.

    Args:
        images: (n, 3, S, S) uint8; they are left as they are.
        share: of the area, from 0 (nothing) to 1 (everything).
        kind: ``patches`` hides random patches of a grid, ``block`` one square at the centre.
        seed: of the random patches.
        patch: side of a patch in pixels; by default an eighth of S.
        fill: colour of what is hidden, three numbers in [0, 1].
        first: number of the first image.

    Returns:
        (n, 3, S, S) uint8.

    Raises:
        ConfigError: a share, a patch or a kind that there is not.
    """
    hidden = occlusion_masks(len(images), images.shape[-1], share, kind=kind, seed=seed, patch=patch, first=first)
    colour = (255 * torch.tensor(fill)).round().to(images).view(3, 1, 1)
    return torch.where(hidden.to(images.device), colour, images)


def occlusion_masks(
    count: int, size: int, share: float, *, kind: Occlusion, seed: int, patch: int | None = None, first: int = 0
) -> Tensor:
    """Where :func:`occluded` hides: (count, 1, size, size), true there."""
    if not 0 <= share <= 1:
        raise ConfigError(f"The share that is hidden is {share}; it takes a number from 0 to 1.")
    if kind == "block":
        side = round(math.sqrt(share) * size)
        start = (size - side) // 2
        block = torch.zeros(count, 1, size, size, dtype=torch.bool)
        block[..., start : start + side, start : start + side] = True
        return block
    if kind != "patches":
        raise ConfigError(f"There is no occlusion {kind!r}; it is one of {', '.join(OCCLUSIONS)}.")
    patch = max(1, size // _CELLS) if patch is None else patch
    if not 1 <= patch <= size:
        raise ConfigError(f"A patch has a side of 1 to {size} pixels, the side of the images, not {patch}.")
    drawn = [
        random_masks("patches", size, 1, Draws(generator_for(seed, "occlusion", number), 1), ratio=share, patch=patch)
        for number in range(first, first + count)
    ]
    return torch.cat(drawn).bool() if drawn else torch.zeros(0, 1, size, size, dtype=torch.bool)
