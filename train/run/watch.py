"""Watches a run for what it cannot come back from: numbers that are not finite, and collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping

from adios_zoo.errors import AdiosError

from ..recipe.settings import WatchSettings


class CollapseError(AdiosError):
    """A run was stopped because it had gone wrong."""


class Watch:
    """Counts the bad log records in a row."""

    def __init__(self, settings: WatchSettings) -> None:
        self.settings = settings
        self.bad_records = 0

    @property
    def worried(self) -> bool:
        """Whether the latest record was bad: such a state is not saved."""
        return self.bad_records > 0

    def see(self, record: Mapping[str, float], step: int) -> None:
        """Look at a log record.

        Raises:
            CollapseError: as many in a row were bad as patience allows.
        """
        reason = self._reason(record)
        self.bad_records = self.bad_records + 1 if reason else 0
        if reason and self.bad_records >= self.settings.patience:
            raise CollapseError(f"The run has collapsed: {reason} at step {step}, {self.bad_records} records in a row.")

    def _reason(self, record: Mapping[str, float]) -> str | None:
        s = self.settings
        deviation, entropy = record.get("deviation"), record.get("mask_entropy")
        shares = [value for name, value in record.items() if name.startswith("area_")]
        if deviation is not None and deviation < s.min_deviation:
            return f"the embeddings of all images are alike (deviation {deviation:.4f}, 1 is an even spread)"
        if len(shares) > 1 and max(shares) > s.max_share:
            return f"one slot owns {100 * max(shares):.1f} % of all pixels"
        if len(shares) > 1 and entropy is not None and entropy > s.max_mask_entropy:
            return f"the slots share every pixel evenly (mask entropy {entropy:.5f} of 1)"
        return None


def check_finite(record: Mapping[str, float], step: int) -> None:
    """Stop at numbers that are not finite.

    Raises:
        CollapseError: naming the first one.
    """
    for name, value in record.items():
        if not math.isfinite(value):
            raise CollapseError(f"{name} is not finite at step {step}.")
