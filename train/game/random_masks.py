"""Masks that nobody learns, to compare the masker's with: none, random patches, blocks, boxes.

Each is 1 where the image is hidden and 0 elsewhere, and is drawn for each image, view and slot on its own.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..chance import Draws

RandomKind = Literal["none", "patches", "blocks", "boxes"]

_LEAST_BLOCK = 16 / 196  # share of the image; BEiT: 16 of 14 x 14 patches
_ASPECT = 0.3  # narrowest block or box, height over width or width over height; BEiT's
_BLOCKS = 20  # that are tried for one mask


def random_masks(kind: RandomKind, size: int, slots: int, draws: Draws, *, ratio: float, patch: int) -> Tensor:
    """Masks (B, ``slots``, ``size``, ``size``) of zeros and ones, on the CPU.

    Args:
        kind: ``none`` hides nothing; ``patches`` are single patches of a grid, as in MAE; ``blocks`` rectangles of
            patches until the share is reached, as in BEiT; ``boxes`` one rectangle.
        size: side of the view in pixels.
        slots: masks of an image.
        draws: random numbers for the B images.
        ratio: share of the image that a mask hides; blocks hide at most this, and nearly.
        patch: side of a patch in pixels.
    """
    if kind == "boxes":
        return _rectangle(size, torch.tensor(ratio * size * size), draws, slots).float()
    cells = math.ceil(size / patch)
    if kind == "patches":
        order = draws.uniform(0, 1, slots, cells * cells).argsort(dim=-1).argsort(dim=-1)
        grid = (order < round(ratio * cells * cells)).view(-1, slots, cells, cells)
    elif kind == "blocks":
        grid = _blocks(cells, round(ratio * cells * cells), draws, slots)
    else:
        images = len(draws.uniform(0, 1))
        grid = torch.zeros(images, slots, cells, cells, dtype=torch.bool)
    pixels: Tensor = grid.repeat_interleave(patch, dim=-2).repeat_interleave(patch, dim=-1)
    return pixels[..., :size, :size].float()


def _blocks(cells: int, wanted: int, draws: Draws, slots: int) -> Tensor:
    """Rectangles of patches laid over one another: (B, slots, cells, cells), at most ``wanted`` of them hidden."""
    hidden = torch.zeros(1, 1, cells, cells, dtype=torch.bool)
    for _ in range(_BLOCKS):
        left = wanted - hidden.sum(dim=(-2, -1))
        least = torch.minimum(left, torch.tensor(max(1, round(_LEAST_BLOCK * cells * cells))))
        area = least + (left - least) * draws.uniform(0, 1, slots)
        block = _rectangle(cells, area, draws, slots)
        together = hidden | block
        fits = together.sum(dim=(-2, -1), keepdim=True) <= wanted
        hidden = torch.where(fits, together, hidden)
    return hidden


def _rectangle(cells: int, area: Tensor, draws: Draws, slots: int) -> Tensor:
    """One rectangle (B, slots, cells, cells) of about this area, of random shape and place, within the grid."""
    aspect = draws.uniform(math.log(_ASPECT), -math.log(_ASPECT), slots).exp()
    # A rectangle that is too long for the grid is made wider instead.
    aspect = aspect.clamp(min=area / cells**2, max=cells**2 / area.clamp(min=1))
    height = (area * aspect).sqrt().round().clamp(max=cells)
    width = (area / aspect).sqrt().round().clamp(max=cells)
    top = (draws.uniform(0, 1, slots) * (cells - height + 1)).floor()
    left = (draws.uniform(0, 1, slots) * (cells - width + 1)).floor()
    at = torch.arange(cells)
    rows = (at >= top[..., None]) & (at < (top + height)[..., None])
    columns = (at >= left[..., None]) & (at < (left + width)[..., None])
    return rows[..., :, None] & columns[..., None, :]
