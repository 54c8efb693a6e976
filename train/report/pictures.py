"""Mask pictures of the same few images again and again, so that one sees how masks become what they are.

One row an image: the photograph, all masks over it in colour, and each mask by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from adios_zoo.errors import DataError
from adios_zoo.files import replacing
from adios_zoo.images.opening import open_image
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import make_transform
from adios_zoo.pictures.draw import Floats, composite, cut_out, picture_of, resize_masks, slot_colour, slot_rgb
from adios_zoo.pictures.page import HEADING, MARGIN, TITLE, Page

# In pixels.
_TILE, _GAP = 128, 8
_KEY = "adios"  # of the picture's facts in the PNG's header


def write_picture(path: Path, images: Floats, masks: Floats, *, epoch: int, caption: str) -> None:
    """Write the picture of the masks after so many epochs.

    Args:
        path: of the PNG file.
        images: (n, S, S, 3) in [0, 1].
        masks: (n, N, S, S) in [0, 1], summing to one over N.
        epoch: how many epochs were trained.
        caption: one line below the title.
    """
    slots = masks.shape[1]
    page = Page(*_corner(len(images), slots + 2))
    page.title(f"After {epoch} epoch{'' if epoch == 1 else 's'}" if epoch else "Untrained", caption)
    for row, (image, weights) in enumerate(zip(images, masks, strict=True)):
        resized = np.asarray(picture_of(image).resize((_TILE, _TILE), Image.Resampling.BICUBIC), np.float32)
        pixels = np.asarray(resized / 255, np.float32)
        large = resize_masks(weights, _TILE)
        tiles: list[tuple[str, str | None, Floats]]
        tiles = [("Image", None, pixels), ("All masks", None, composite(pixels, large))]
        for k, mask in enumerate(large):
            tiles.append((f"Mask {k + 1}", slot_colour(k), cut_out(np.ones_like(pixels), mask, slot_rgb(k))))
        for column, (heading, swatch, tile) in enumerate(tiles):
            left, top, _, _ = _box(row, column)
            page.tile(
                (left, top - HEADING), heading if row == 0 else "", picture_of(tile), swatch if row == 0 else None
            )
    facts = PngInfo()
    facts.add_text(_KEY, json.dumps({"epoch": epoch, "images": len(images), "slots": slots}))
    with replacing(path) as file:
        page.image.save(file, format="PNG", pnginfo=facts)


def seen_masks(masker: nn.Module, pictures: Tensor, card: Card) -> tuple[Floats, Floats]:
    """Pictures (n, 3, H, W) uint8 as the masker sees them, (n, S, S, 3) in [0, 1], and its masks (n, N, S, S)."""
    transform = make_transform(card)
    x = torch.stack([transform(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in pictures.cpu()])
    with torch.inference_mode():
        masks = masker(x.to(next(masker.parameters()).device)).float().cpu().numpy()
    pixels = x.permute(0, 2, 3, 1).numpy() * np.asarray(card.std, np.float32) + np.asarray(card.mean, np.float32)
    return pixels, masks


@dataclass(frozen=True)
class Picture:
    """A picture that :func:`write_picture` wrote.

    Attributes:
        page: the whole of it, RGB.
        epoch: how many epochs had been trained.
        images: how many images, one a row.
        slots: how many masks each has.
    """

    page: Image.Image
    epoch: int
    images: int
    slots: int

    def tile(self, image: int, column: int) -> Image.Image:
        """Of one image its photograph (column 0), all masks (1), or a single mask (2, 3, ...)."""
        return self.page.crop(_box(image, column))


def read_picture(path: Path) -> Picture:
    """Read a picture back.

    Raises:
        DataError: it is not one of ours.
    """
    try:
        with open_image(path) as opened:
            facts = {name: int(value) for name, value in json.loads(opened.info[_KEY]).items()}
            return Picture(opened.convert("RGB"), **facts)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a mask picture of a run.") from error


def picture_path(run: Path, epoch: int) -> Path:
    """Where a run keeps the picture after so many epochs."""
    return run / "pictures" / f"epoch-{epoch:04d}.png"


def _box(row: int, column: int) -> tuple[int, int, int, int]:
    left = MARGIN + column * (_TILE + _GAP)
    top = MARGIN + TITLE + HEADING + row * (_TILE + _GAP)
    return left, top, left + _TILE, top + _TILE


def _corner(rows: int, columns: int) -> tuple[int, int]:
    _, _, right, bottom = _box(rows - 1, columns - 1)
    return right + MARGIN, bottom + MARGIN
