"""How well masks agree with ground truth, read off one table: the pixels that each label shares with each slot.

Masks count as hard ones here: at each pixel the slot with the largest weight has it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]

BACKGROUND = 0


@dataclass(frozen=True)
class Overlap:
    """One image: its labels, what each shares with each slot, and two adjusted Rand indices.

    Attributes:
        labels: (L,) that are present, ascending; 0 is the background.
        counts: (L, N) pixels that have the label and are the slot's.
        ari: adjusted Rand index of the slots and the labels over all pixels.
        ari_foreground: over the pixels that are not background; NaN where there are none.
    """

    labels: Labels
    counts: Counts
    ari: float
    ari_foreground: float

    def iou(self) -> Floats:
        """Intersection over union of each label with each slot, (L, N); a slot's pixels on other labels count."""
        union = self.counts.sum(axis=1, keepdims=True) + self.counts.sum(axis=0) - self.counts
        return np.asarray(self.counts / union, np.float64)

    def average_precision(self) -> Floats:
        """Average precision of each slot, a score of 0 or 1, as a detector of each label's pixels, (L, N).

        There are two thresholds: the slot alone, then all pixels, whose precision is the label's share of them.
        """
        sizes = self.counts.sum(axis=1, keepdims=True)
        recall = self.counts / sizes
        precision = self.counts / np.maximum(self.counts.sum(axis=0), 1)
        return np.asarray(recall * precision + (1 - recall) * sizes / self.counts.sum(), np.float64)


def overlap(truth: Labels, slots: Labels, count: int) -> Overlap:
    """Compare one image's labels with its slots.

    Args:
        truth: label of each pixel, of any shape; 0 is the background.  Pixels that do not count are left out.
        slots: number of the slot that has the pixel, of the same shape.
        count: N, how many slots there are, present or not.
    """
    from sklearn.metrics import adjusted_rand_score

    truth, slots = truth.ravel(), slots.ravel()
    labels, rows = np.unique(truth, return_inverse=True)
    counts = np.bincount(rows * count + slots, minlength=len(labels) * count).reshape(len(labels), count)
    inside = truth != BACKGROUND
    foreground = float(adjusted_rand_score(truth[inside], slots[inside])) if inside.any() else float("nan")
    return Overlap(labels, counts, float(adjusted_rand_score(truth, slots)), foreground)


def covering(image: Overlap, *, foreground: bool, batch_labels: Collection[int] = ()) -> dict[str, float]:
    """Segmentation covering and average precision of one image: each label is given the slot that is best for it.

    Args:
        image: its table.
        foreground: leave the background's label out; the pixels stay.
        batch_labels: labels of the batch that the image is judged in.  With these the authors' code is followed in
            one oddity: for a label of the batch that the image lacks, a slot that the image lacks too is a perfect
            score, which is added to ``mean_ap`` without being counted in its denominator.

    Returns:
        ``mean_sc`` and ``mean_ap``, means over the image's labels of the best IoU and of the best average precision;
        ``scaled_sc`` and ``scaled_ap``, the same weighted by the labels' pixels.  NaN where no label is judged.
    """
    judged = image.labels != BACKGROUND if foreground else np.ones(len(image.labels), bool)
    if not judged.any():
        return dict.fromkeys(("mean_sc", "scaled_sc", "mean_ap", "scaled_ap"), float("nan"))
    sizes = image.counts.sum(axis=1)[judged]
    found = {}
    for name, scores in (("sc", image.iou()), ("ap", image.average_precision())):
        best = scores[judged].max(axis=1)
        found[f"mean_{name}"] = float(best.mean())
        found[f"scaled_{name}"] = float(np.average(best, weights=sizes))
    if (image.counts.sum(axis=0) == 0).any():
        absent = set(batch_labels) - set(image.labels.tolist()) - ({BACKGROUND} if foreground else set())
        found["mean_ap"] += len(absent) / len(sizes)
    return found
