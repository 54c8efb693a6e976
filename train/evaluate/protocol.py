"""Named protocols: every choice of an evaluation that changes its figures, so that figures can be compared.

``standard`` is this project's: one fixed cell of k-NN, as many clusters as classes, images resized to size / 0.875.
``paper`` follows the authors' evaluation scripts, the weights' own preprocessing among them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from adios_zoo.errors import ConfigError
from adios_zoo.models.card import Card
from adios_zoo.search.knn import Cell

from ..run.schedules import warmup_cosine

DROP = 0.1  # factor of the learning rate at each of its steps


@dataclass(frozen=True)
class Training:
    """SGD with momentum 0.9 on augmented images: random resized crops and flips.

    Attributes:
        epochs: passes over the training images.
        lr: highest learning rate.
        schedule: ``cosine`` after a linear warm-up, or ``steps``, each to a tenth.
        batch_size: images a step; the last, smaller batch of an epoch is left out.
        weight_decay: of all weights.
        warmup: share of the epochs in which the rate rises from 0.
        steps: shares of the epochs after which it drops.
        optimiser: ``sgd``, or ``lars``: layer-wise rates around it (eta 0.001, not clipped).
        frozen_statistics: batch norms keep their running statistics, as if the network were only used.
        sizes: sides of the images in equal parts of the epochs, in pixels; none: the model's own throughout.
    """

    epochs: int
    lr: float
    schedule: Literal["cosine", "steps"]
    batch_size: int = 128
    weight_decay: float = 0.0
    warmup: float = 0.0
    steps: tuple[float, ...] = ()
    optimiser: Literal["sgd", "lars"] = "sgd"
    frozen_statistics: bool = True
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"epochs is {self.epochs} and batch_size {self.batch_size}; both take at least 1.")
        if not (self.lr > 0 and math.isfinite(self.lr)) or not (self.weight_decay >= 0):
            raise ConfigError(f"lr is {self.lr} and weight_decay {self.weight_decay}; lr takes a number above 0.")
        if len(self.sizes) > self.epochs or any(not 8 <= size <= 4096 for size in self.sizes):
            raise ConfigError(f"sizes are {list(self.sizes)}; give at most one an epoch, each from 8 to 4096 pixels.")

    def rate(self, epoch: float) -> float:
        """The learning rate at a time in epochs, from 0, with fractions."""
        if self.schedule == "steps":
            return self.lr * DROP ** sum(epoch >= share * self.epochs for share in self.steps)
        warmup = self.warmup * self.epochs
        return warmup_cosine(epoch, self.lr, warmup_epochs=warmup, max_epochs=self.epochs, start=0.0)

    def first_epochs(self) -> dict[int, int]:
        """The epoch, from 0, that each of the sizes begins with."""
        return {-(-part * self.epochs // len(self.sizes)): size for part, size in enumerate(self.sizes)}


@dataclass(frozen=True)
class Protocol:
    """How a model is evaluated.

    Attributes:
        name: ``standard`` or ``paper``.
        crop_pct: input size over the size that the images' shorter side is resized to before the centre crop;
            ``None``: as the model's card says, squashing among it.
        cells: settings of k-NN.  Of several the best is reported, which has then been chosen on the test images.
        all_classes: as many clusters as classes; else as many as the highest label, one fewer.
        augmented: the linear probe is trained on augmented images, not on stored features.
        linear: training of the linear probe on augmented images.
        finetune: training of the whole network.
    """

    name: str
    crop_pct: float | None
    cells: tuple[Cell, ...]
    all_classes: bool
    augmented: bool
    linear: Training
    finetune: Training

    def preprocessing(self, card: Card) -> Card:
        """The card with the preprocessing of this protocol."""
        return card if self.crop_pct is None else card.replace(crop_pct=self.crop_pct, crop_mode="center")


_LINEAR = Training(epochs=100, lr=0.1, schedule="steps", steps=(0.6, 0.8))
# The grid of the authors' k-NN script; their encoders' features, not their projectors'.
_KS, _TEMPERATURES = (5, 10, 20, 50, 100), (0.5, 0.1, 0.05, 0.01, 0.005, 0.001)
_PROTOCOLS = {
    "standard": Protocol(
        name="standard",
        crop_pct=0.875,
        cells=(Cell(20),),
        all_classes=True,
        augmented=False,
        linear=_LINEAR,
        finetune=Training(
            epochs=50, lr=0.05, schedule="cosine", weight_decay=5e-4, warmup=0.05, frozen_statistics=False
        ),
    ),
    "paper": Protocol(
        name="paper",
        crop_pct=None,
        cells=(
            *(Cell(k, "cosine", temperature) for k in _KS for temperature in _TEMPERATURES),
            *(Cell(k, "euclidean", None) for k in _KS),
        ),
        all_classes=False,
        augmented=True,
        linear=_LINEAR,
        finetune=Training(epochs=200, lr=0.5, schedule="cosine", weight_decay=5e-4, warmup=0.05),
    ),
}
NAMES = tuple(_PROTOCOLS)


def protocol(name: str = "standard", *, crop_pct: float | None = None) -> Protocol:
    """The protocol of this name, with another crop if ``crop_pct`` is given.

    Raises:
        ConfigError: no such protocol, or an impossible crop.
    """
    if name not in _PROTOCOLS:
        raise ConfigError(f"There is no protocol {name!r}; use one of {', '.join(NAMES)}.")
    if crop_pct is None:
        return _PROTOCOLS[name]
    if not 0.05 <= crop_pct <= 1:
        raise ConfigError(f"crop_pct is {crop_pct}; it takes a number from 0.05 to 1.")
    return replace(_PROTOCOLS[name], crop_pct=crop_pct)


def preprocessing_record(card: Card) -> dict[str, Any]:
    """The part of a card that says how images are prepared, for a record of settings."""
    names = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")
    return {name: value for name, value in asdict(card).items() if name in names}
