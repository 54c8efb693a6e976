"""How a run is, in words: plain rules over its latest log records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .charts import number

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
    records: Sequence[Mapping[str, Any]], limits: Mapping[str, Any], *, classes: int, unreadable: int, images: int
) -> list[Verdict]:
    """The verdict of every rule that has something to say.

    Args:
        records: of the log, in order.
        limits: the recipe's :class:`adios_zoo.train.watch.WatchSettings`, beyond which a run is stopped.
        classes: of the labels; 0 without.
        unreadable: images that could not be read.
        images: that could.
    """
    found = [
        _numbers(records),
        _embeddings(records, limits.get("min_deviation", 0.0)),
        _slots(records, limits.get("max_share", 1.0)),
        _masks(records, limits.get("max_mask_entropy", 1.0)),
        _features(records, classes),
    ]
    if unreadable:
        share = 100 * unreadable / max(images + unreadable, 1)
        text = f"{unreadable:,} images ({number(share)} %) could not be read; unreadable.tsv names them."
        found.append(Verdict("warning", "Some images are missing", text))
    return [verdict for verdict in found if verdict is not None]


def series(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The values of one name, in order."""
    return [float(record[name]) for record in records if isinstance(record.get(name), int | float)]


def slots_of(records: Sequence[Mapping[str, Any]]) -> int:
    """How many masks the records speak of."""
    return sum(name.startswith("area_") for name in next((r for r in reversed(records) if "area_0" in r), {}))


def _latest(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [v for v in series(records, name) if math.isfinite(v)][-_LATEST:]
    return sum(values) / len(values) if values else None


def _numbers(records: Sequence[Mapping[str, Any]]) -> Verdict | None:
    for record in records:
        for name, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                text = f"{name} is not finite at step {record.get('step')}; lower learning rates are the first remedy."
                return Verdict("bad", "Numbers got out of hand", text)
    return None


def _embeddings(records: Sequence[Mapping[str, Any]], least: float) -> Verdict | None:
    deviation = _latest(records, "deviation")
    if deviation is None:
        return None
    text = f"Deviation {number(deviation)}, where 1 is an even spread and 0 a single point."
    if deviation < least:
        return Verdict("bad", "The embeddings have collapsed", f"{text} All images look the same to the encoder.")
    if deviation < _LITTLE_SPREAD:
        return Verdict("warning", "The embeddings are close together", f"{text} Watch whether it falls further.")
    return Verdict("good", "No collapse", text)


def _slots(records: Sequence[Mapping[str, Any]], most: float) -> Verdict | None:
    count = slots_of(records)
    shares = [_latest(records, f"area_{k}") or 0.0 for k in range(count)]
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


def _masks(records: Sequence[Mapping[str, Any]], most: float) -> Verdict | None:
    entropy = _latest(records, "mask_entropy")
    if entropy is None or slots_of(records) < 2:
        return None
    text = f"Mask entropy {number(entropy)}: 0 where each pixel belongs to one mask, 1 where all share it evenly."
    if entropy > most:
        return Verdict("bad", "The masks are uniform", f"{text} They hide nothing in particular.")
    if entropy > _BLURRED:
        return Verdict("warning", "The masks are undecided", f"{text} Early in a run that is usual.")
    return Verdict("good", "The masks have decided", text)


def _features(records: Sequence[Mapping[str, Any]], classes: int) -> Verdict | None:
    accuracy = series(records, "knn_top1")
    if len(accuracy) < 2:
        return None
    untrained = next((r for r in records if "knn_top1" in r), {}).get("step") == 0
    text = f"k-NN top-1 {number(accuracy[-1])} %, {number(accuracy[0])} % {'untrained' if untrained else 'at first'}"
    text += f"; guessing gives {number(100 / classes)} %." if classes > 1 else "."
    if accuracy[-1] <= accuracy[0]:
        return Verdict("warning", "The features are no better than before", text)
    if accuracy[-1] < 0.8 * max(accuracy):
        best = f" The best was {number(max(accuracy))} %."
        return Verdict("warning", "The features have been better", text + best)
    return Verdict("good", "The features got better", text)
