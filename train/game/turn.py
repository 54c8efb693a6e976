"""What a turn of the game leaves behind: figures for the log, and what the next turn need not compute again."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from .batch_norm import Replay
from .losses import wide


@dataclass
class Targets:
    """What the masker turn need not compute again: momentum projections of one batch, and the fills of its views."""

    clean: dict[int, Tensor] = field(default_factory=dict)
    masked: list[dict[int, Tensor]] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    masked_replays: list[list[Replay]] = field(default_factory=list)
    fills: dict[int, Tensor | None] = field(default_factory=dict)


@dataclass
class Turn:
    """What a turn reports: its objective's parts, detached scalars.

    Attributes:
        loss: the method's loss, summed over the masks.
        probe: cross-entropy of the online linear probe; ``None`` without labels.
        probe_accuracy: percent of the batch that the probe labels right.
        deviation: how far the clean projections are spread, see :func:`deviation`; ``None`` in the masker turn.
        sparsity: penalty before its weight; ``None`` in the encoder turn.
        entropy: penalty before its weight; ``None`` in the encoder turn.
        objective: what the masker maximises; in the encoder turn the loss.
        targets: momentum projections to share with the masker turn.
    """

    loss: Tensor
    objective: Tensor
    probe: Tensor | None = None
    probe_accuracy: Tensor | None = None
    deviation: Tensor | None = None
    sparsity: Tensor | None = None
    entropy: Tensor | None = None
    targets: Targets = field(default_factory=Targets)


def deviation(z: Tensor) -> Tensor:
    """Standard deviation of unit-length embeddings (B, P), mean over P, times sqrt(P).

    1 when they are spread evenly over the sphere, 0 when they have collapsed to a point.
    """
    spread: Tensor = F.normalize(wide(z), dim=1).std(dim=0).mean()
    return spread * float(z.shape[1] ** 0.5)
