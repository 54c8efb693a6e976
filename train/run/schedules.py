"""Learning rates by epoch and BYOL's momentum by step, in closed form."""

from __future__ import annotations

import math


def warmup_cosine(
    epoch: float,
    base: float,
    *,
    warmup_epochs: float,
    max_epochs: int,
    start: float = 0.003,
    minimum: float = 0.0,
) -> float:
    """Learning rate in ``epoch`` (from 0): a straight line from ``start``, then half a cosine to ``minimum``.

    The peak ``base`` is reached in epoch ``warmup_epochs - 1`` and held for one more; a warm-up of a part of an epoch
    reaches it at its end.  ``start`` is absolute: all groups begin at it, whatever their base rate.  Past
    ``max_epochs`` the rate climbs again along the cosine, as it does in the authors' runs whose encoder schedule is
    shorter than the training.
    """
    if epoch < warmup_epochs:
        # Between epochs the peak is not passed: it is held for the last of the warm-up.
        return start + min(epoch / max(warmup_epochs - 1, min(warmup_epochs, 1)), 1.0) * (base - start)
    progress = (epoch - warmup_epochs) / max(max_epochs - warmup_epochs, 1)
    return minimum + (base - minimum) * (1 + math.cos(math.pi * progress)) / 2


def byol_tau(step: int, total_steps: int, *, base: float = 0.99, final: float = 1.0) -> float:
    """Momentum tau of BYOL's target networks after ``step`` of ``total_steps`` steps."""
    return final - (final - base) * (math.cos(math.pi * step / total_steps) + 1) / 2
