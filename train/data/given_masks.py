"""Masks that come with the data: maps of the objects in each image, of which some are drawn to be hidden."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from adios_zoo.images.image import ImageError, ImageRef

from ..chance import Draws


def read_mask(ref: ImageRef, image: Image.Image) -> Image.Image:
    """The map of the objects in an image that has been read, of its size, mode L.

    Raises:
        ImageError: there is none, or it cannot be read or is of another size.
    """
    if ref.mask is None:
        raise ImageError(ref.id, "it has no mask")
    mask = ref.mask()
    if mask.size != image.size:
        (w, h), (width, height) = mask.size, image.size
        raise ImageError(ref.id, f"its mask has {w} x {h} pixels, the image {width} x {height}")
    return mask


def draw_objects(maps: Tensor, slots: int, draws: Draws) -> Tensor:
    """Masks (B, ``slots``, H, W) uint8, 255 where the object is that was drawn for the slot, 0 elsewhere.

    Each object of an image is as likely as the others, in each slot anew.  Without objects the masks are empty.

    Args:
        maps: (B, H, W) uint8, 0 the background, any other value an object.
        slots: masks of an image.
        draws: random numbers for the B images.
    """
    present = torch.zeros(len(maps), 256, dtype=torch.bool, device=maps.device)
    present.scatter_(1, maps.flatten(1).long(), True)
    present[:, 0] = False
    number = present.cumsum(dim=1)
    drawn = (draws.uniform(0, 1, slots).to(maps.device, non_blocking=True) * number[:, -1:]).long() + 1
    # Of an image without objects none has number 1, and argmax gives 0, the background.
    values = ((number[:, None] == drawn[..., None]) & present[:, None]).int().argmax(dim=2)
    values = values.to(torch.uint8)[..., None, None]
    return ((maps[:, None] == values) & (values > 0)).to(torch.uint8) * 255
