"""How a run is, in words: plain rules over its latest log records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .charts import number
from .record import Column

Log = Mapping[str, Column]

_LATEST = 5  # records that are averaged
_LITTLE_SPREAD = 0.3  # deviation
_LARGE_SHARE, _SMALL_SHARE = 0.75, 0.02  # of the pixels that one slot has
_BLURRED = 0.9  # mask entropy


@dataclass(frozen=True)
class Verdict:
    """What a rule says.

    Attributes:
        level: ``good``, ``warning`` or ``bad``.
        title: in some words.
        text: the figures, and what they mean.
    """

    level: Literal["good", "warning", "bad"]
    title: str
    text: str


def verdicts(
    log: Log,
    limits: Mapping[str, Any],
    *,
    learned: bool = True,
    classes: int,
    queries: int,
    unreadable: int,
    images: int,
) -> list[Verdict]:
    """The verdict of every rule that has something to say.

    Args:
        log: its numbers by name.
        limits: the recipe's :class:`adios_zoo.train.recipe.settings.WatchSettings`, beyond which a run is stopped.
        learned: whether a masker is trained; of masks that are drawn at random nothing is said.
        classes: of the labels; 0 without.
        queries: images that the k-NN accuracy is measured on.
        unreadable: images that could not be read.
        images: that could.
    """
    found = [
        _numbers(log),
        _embeddings(log, limits.get("min_deviation", 0.0)),
        _slots(log, limits.get("max_share", 1.0)) if learned else None,
        _masks(log, limits.get("max_mask_entropy", 1.0)) if learned else None,
        _features(log, classes, queries),
    ]
    if unreadable:
        share = 100 * unreadable / max(images + unreadable, 1)
        text = f"{unreadable:,} images ({number(share)} %) could not be read; unreadable.tsv names them."
        found.append(Verdict("warning", "Some images are missing", text))
    return [verdict for verdict in found if verdict is not None]


def slots_of(log: Log) -> int:
    """How many masks a log speaks of."""
    return sum(name.startswith("area_") for name in log)


def _latest(log: Log, name: str) -> float | None:
    values = log[name].values if name in log else np.empty(0)
    latest = values[np.isfinite(values)][-_LATEST:]
    return float(latest.mean()) if len(latest) else None


def _numbers(log: Log) -> Verdict | None:
    for name, column in log.items():
        bad = ~np.isfinite(column.values)
        if bad.any():
            step = int(column.steps[bad][0])
            text = f"{name} is not finite at step {step:,}; lower learning rates are the first remedy."
            return Verdict("bad", "Numbers got out of hand", text)
    return None


def _embeddings(log: Log, least: float) -> Verdict | None:
    deviation = _latest(log, "deviation")
    if deviation is None:
        return None
    text = f"Deviation {number(deviation)}, where 1 is an even spread and 0 a single point."
    if deviation < least:
        return Verdict("bad", "The embeddings have collapsed", f"{text} All images look the same to the encoder.")
    if deviation < _LITTLE_SPREAD:
        return Verdict("warning", "The embeddings are close together", f"{text} Watch whether it falls further.")
    return Verdict("good", "No collapse", text)


def _slots(log: Log, most: float) -> Verdict | None:
    count = slots_of(log)
    shares = [_latest(log, f"area_{k}") or 0.0 for k in range(count)]
    if count < 2:
        return None
    largest, smallest = max(range(count), key=shares.__getitem__), min(range(count), key=shares.__getitem__)
    text = (
        f"Mask {largest + 1} has {number(100 * shares[largest])} % of the pixels, mask {smallest + 1} "
        f"{number(100 * shares[smallest])} %; an even share is {number(100 / count)} %."
    )
    if shares[largest] > most:
        return Verdict("bad", "One mask owns the whole image", text)
    if shares[largest] > _LARGE_SHARE:
        return Verdict("warning", "One mask owns most of the image", f"{text} A larger alpha_sparsity evens them out.")
    if shares[smallest] < _SMALL_SHARE:
        return Verdict("warning", "A mask is hardly used", f"{text} Fewer slots may do, or a larger alpha_sparsity.")
    return Verdict("good", "Every mask has its share", text)


def _masks(log: Log, most: float) -> Verdict | None:
    entropy = _latest(log, "mask_entropy")
    if entropy is None or slots_of(log) < 2:
        return None
    text = f"Mask entropy {number(entropy)}: 0 where each pixel belongs to one mask, 1 where all share it evenly."
    if entropy > most:
        return Verdict("bad", "The masks are uniform", f"{text} They hide nothing in particular.")
    if entropy > _BLURRED:
        return Verdict("warning", "The masks are undecided", f"{text} Early in a run that is usual.")
    return Verdict("good", "The masks have decided", text)


def _features(log: Log, classes: int, queries: int) -> Verdict | None:
    if "knn_top1" not in log or len(log["knn_top1"].values) < 2:
        return None
    accuracy = log["knn_top1"].values.tolist()
    untrained = log["knn_top1"].steps[0] == 0
    text = f"k-NN top-1 {number(accuracy[-1])} %, {number(accuracy[0])} % {'untrained' if untrained else 'at first'}"
    text += f"; guessing gives {number(100 / classes)} %." if classes > 1 else "."
    share = (accuracy[0] + accuracy[-1]) / 200
    chance = 200 * math.sqrt(2 * share * (1 - share) / max(queries, 1))  # two standard deviations of the difference
    if accuracy[-1] - accuracy[0] <= chance:
        return Verdict("warning", "The features are not clearly better than at first", text)
    if accuracy[-1] < 0.8 * max(accuracy):
        best = f" The best was {number(max(accuracy))} %."
        return Verdict("warning", "The features have been better", text + best)
    return Verdict("good", "The features got better", text)
