"""What is evaluated, on which images, and how these are prepared: what all evaluations have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adios_zoo.errors import ConfigError
from adios_zoo.model import AdiosModel
from adios_zoo.model_card import Card
from adios_zoo.registry import DEFAULT_MODEL

from .features import Features, check_labels, is_stored, two_sets
from .models import load_encoder
from .protocol import Protocol, preprocessing_record, protocol


@dataclass(frozen=True)
class Task:
    """One model, images to learn from, and images to judge by.

    Attributes:
        train: labelled images, see :mod:`adios_zoo.sources`, or a feature file of ``adios extract``.
        test: of the same kind.
        model: see :func:`~adios_zoo.train.probe.models.load_encoder`; not asked where features are stored.
        protocol: see :class:`~adios_zoo.train.probe.protocol.Protocol`.
        train_images: only the first so many.
        test_images: only the first so many.
        random_seed: draw the encoder's weights from this seed instead of loading them.
        device: where the networks run.
        progress: draw progress bars.
    """

    train: str
    test: str
    model: str = DEFAULT_MODEL
    protocol: Protocol = field(default_factory=protocol)
    train_images: int | None = None
    test_images: int | None = None
    random_seed: int | None = None
    device: str = "cpu"
    progress: bool = False

    @cached_property
    def encoder(self) -> AdiosModel:
        """The model, on its device."""
        return load_encoder(self.model, random_seed=self.random_seed, device=self.device)

    @cached_property
    def card(self) -> Card:
        """The model's card, with the preprocessing of the protocol."""
        return self.protocol.preprocessing(self.encoder.card)

    @property
    def stored(self) -> bool:
        """Whether features are read instead of computed."""
        return is_stored(self.train)

    @cached_property
    def sets(self) -> tuple[Features, Features]:
        """Features to learn from and features to judge by; see :func:`~adios_zoo.train.probe.features.two_sets`."""
        encoder, card = (None, None) if self.stored else (self.encoder, self.card)
        if self.stored and self.random_seed is not None:
            raise ConfigError("Stored features cannot be those of random weights; give sources of images instead.")
        return two_sets(
            encoder,
            self.train,
            self.test,
            card=card,
            train_images=self.train_images,
            test_images=self.test_images,
            progress=self.progress,
        )

    @cached_property
    def classes(self) -> int:
        """How many classes the images have together."""
        return check_labels(*((part.record["source"], part.labels, part.classes) for part in self.sets))

    def record(self, evaluation: str) -> dict[str, Any]:
        """What a record of an evaluation begins with."""
        train, test = self.sets
        how: dict[str, Any] = {"preprocessing": "as the features were extracted"}
        if not self.stored:
            how = {"preprocessing": preprocessing_record(self.card), "random_seed": self.random_seed}
        model = train.record["extracted"].get("card") if self.stored else self.encoder.card.name
        return {
            "evaluation": evaluation,
            "protocol": self.protocol.name,
            "model": model,
            **how,
            "train": train.record,
            "test": test.record,
            "classes": self.classes,
        }


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation (of the sample; ``None`` of one) of a figure over seeds, and its values."""
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    return {"mean": mean, "std": spread, "values": list(values)}


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds, if there are any and each comes once.

    Raises:
        ConfigError: there are none, or one comes twice.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"The seeds are {list(seeds)}; give at least one, and none twice.")
    return list(seeds)
