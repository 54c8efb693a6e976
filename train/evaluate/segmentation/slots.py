"""Where the masks come from that are judged: a masker, files, or rules that look at no image.

Each gives the hard masks of an image, at the size of its ground truth: the number of the slot that has each pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adios_zoo.errors import DataError
from adios_zoo.models.model import AdiosModel
from adios_zoo.models.preprocess import make_transform
from adios_zoo.pictures.draw import predict_masks

from .ground_truth import Truth, named
from .overlap import Labels


class Slots(NamedTuple):
    """Number of the slot that has each pixel, (H, W), and how many slots there are."""

    numbers: Labels
    total: int


Slotter = Callable[[Truth], Slots]


def masker_slots(model: AdiosModel) -> Slotter:
    """The slots of a model's masker, which is given the whole image, squashed to its size."""
    whole = make_transform(model.card.replace(crop_mode="squash", crop_pct=1.0))
    return lambda truth: _hard(torch.from_numpy(predict_masks(model, truth.image, whole)), truth)


def file_slots(folder: Path) -> Slotter:
    """Masks from the files ``NAME.npy`` of a folder, (N, h, w), which cover the whole image.

    Raises:
        DataError: no such folder; later, an image has no file, or it holds something else.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of .npy masks.")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.npy")}

    def read(truth: Truth) -> Slots:
        path = named(files, str(PurePosixPath(truth.id).with_suffix("")))
        if path is None:
            raise DataError(f"{folder} has no {PurePosixPath(truth.id).stem}.npy, the masks of {truth.id}.")
        try:
            masks = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a readable .npy file of masks.") from error
        if masks.ndim != 3 or not masks.size or masks.dtype.kind not in "fiu" or len(masks) > 255:
            raise DataError(f"{path} holds {masks.dtype} {masks.shape}; masks are numbers of shape (N, H, W).")
        return _hard(torch.from_numpy(masks.astype(np.float32)), truth)

    return read


def one_slot(truth: Truth) -> Slots:
    """One slot that has the whole image."""
    return Slots(np.zeros(_size(truth), np.uint8), 1)


def centred_box(truth: Truth) -> Slots:
    """Two slots: a box at the centre with half of the image's area and its shape, and what is around it."""
    height, width = _size(truth)
    numbers = np.ones((height, width), np.uint8)
    top, left = (round(side * (1 - math.sqrt(0.5)) / 2) for side in (height, width))
    numbers[top : height - top, left : width - left] = 0
    return Slots(numbers, 2)


def grid(count: int) -> Slotter:
    """The given number of slots as cells of a regular grid, as square as that number allows: 6 as 2 rows of 3."""
    rows = max(n for n in range(1, math.isqrt(count) + 1) if count % n == 0)
    columns = count // rows

    def cells(truth: Truth) -> Slots:
        height, width = _size(truth)
        down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
        return Slots((down[:, None] * columns + across).astype(np.uint8), count)

    return cells


def _size(truth: Truth) -> tuple[int, int]:
    return truth.image.height, truth.image.width


def _hard(masks: Tensor, truth: Truth) -> Slots:
    resized = F.interpolate(masks[None], _size(truth), mode="bilinear", antialias=True)[0]
    return Slots(resized.argmax(dim=0).to(torch.uint8).numpy(), len(masks))
