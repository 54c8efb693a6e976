"""How well the objects of an image are found: each by the slot that fits it best, as masks and as boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ground_truth import Boxes
from .overlap import BACKGROUND, Floats, Labels, Overlap

FOUND = 0.5  # intersection over union from which an object counts as found


def best_masks(image: Overlap) -> Floats:
    """IoU of each object of a map with its best slot, (K,)."""
    return np.asarray(image.iou()[image.labels != BACKGROUND].max(axis=1, initial=0), np.float64)


def best_boxes(objects: Boxes, slots: Labels, count: int) -> Floats:
    """IoU of each object's box with the best of the slots' boxes, (K,).

    Args:
        objects: (K, 4) left, top, right, bottom in pixels.
        slots: (H, W), number of the slot that has the pixel; its box is that of its largest connected part, so that
            single stray pixels do not blow it up.
        count: how many slots there are, present or not.
    """
    boxes = np.concatenate([_box(slots == slot) for slot in range(count)])
    both = np.minimum(objects[:, None, 2:], boxes[:, 2:]) - np.maximum(objects[:, None, :2], boxes[:, :2])
    shared = both.clip(min=0).prod(axis=2)
    union = _areas(objects)[:, None] + _areas(boxes) - shared
    return np.asarray((shared / union).max(axis=1, initial=0), np.float64)


def _box(slot: NDArray[np.bool_]) -> Boxes:
    """(1, 4), or (0, 4) for a slot that has no pixel."""
    from scipy.ndimage import find_objects, label

    parts, number = label(slot)
    if not number:
        return np.zeros((0, 4))
    rows, columns = find_objects(parts)[np.bincount(parts.ravel())[1:].argmax()]
    return np.array([[columns.start, rows.start, columns.stop, rows.stop]], np.float64)


def _areas(boxes: Boxes) -> Floats:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.float64)
