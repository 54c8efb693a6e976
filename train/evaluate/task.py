"""What is evaluated, on which images, and how these are prepared: what all evaluations have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from adios_zoo.errors import ConfigError
from adios_zoo.models.card import Card
from adios_zoo.models.model import AdiosModel
from adios_zoo.zoo.registry import DEFAULT_MODEL

from ..chance import check_seed
from .features import Features, check_limit, is_stored, labelled, two_sets
from .models import load_encoder, model_record, versions
from .protocol import Protocol, preprocessing_record, protocol


@dataclass(frozen=True)
class Task:
    """One model, images to judge it by, and images to learn from.

    Attributes:
        test: labelled images, see :mod:`adios_zoo.sources`, or a feature file of ``adios extract``.
        train: of the same kind; empty for what needs no training.
        model: see :func:`~adios_zoo.train.evaluate.models.load_encoder`; not asked where features are stored.
        protocol: see :class:`~adios_zoo.train.evaluate.protocol.Protocol`.
        train_images: only the first so many.
        test_images: only the first so many.
        random_seed: draw the encoder's weights from this seed instead of loading them.
        device: where the networks run.
        progress: draw progress bars.

    Raises:
        ConfigError: an impossible number of images.
    """

    test: str
    train: str = ""
    model: str = DEFAULT_MODEL
    protocol: Protocol = field(default_factory=protocol)
    train_images: int | None = None
    test_images: int | None = None
    random_seed: int | None = None
    device: str = "cpu"
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse what leaves no image."""
        check_limit(self.train_images)
        check_limit(self.test_images)

    @cached_property
    def encoder(self) -> AdiosModel:
        """The model, on its device."""
        return load_encoder(self.model, random_seed=self.random_seed, device=self.device)

    @cached_property
    def card(self) -> Card:
        """The model's card, with the preprocessing of the protocol."""
        return self.protocol.preprocessing(self.encoder.card)

    @cached_property
    def stored(self) -> bool:
        """Whether features are read instead of computed."""
        return is_stored(self.train or self.test)

    @property
    def training_source(self) -> str:
        """The images to learn from.

        Raises:
            ConfigError: there are none.
        """
        if not self.train:
            raise ConfigError("Name the images to learn from: --train SOURCE.")
        return self.train

    @cached_property
    def sets(self) -> tuple[Features, Features]:
        """Features to learn from and features to judge by; see :func:`~adios_zoo.train.evaluate.features.two_sets`."""
        encoder, card = self._how
        return two_sets(
            encoder,
            self.training_source,
            self.test,
            card=card,
            train_images=self.train_images,
            test_images=self.test_images,
            progress=self.progress,
        )

    @cached_property
    def test_set(self) -> Features:
        """Features to judge by alone."""
        encoder, card = self._how
        return labelled(encoder, self.test, limit=self.test_images, card=card, progress=self.progress)

    @property
    def _how(self) -> tuple[AdiosModel | None, Card | None]:
        if not self.stored:
            return self.encoder, self.card
        if self.random_seed is not None:
            raise ConfigError("Stored features cannot be those of random weights; give sources of images instead.")
        if self.protocol.crop_pct != protocol(self.protocol.name).crop_pct:
            raise ConfigError("Stored features have been cropped already; give sources of images for another crop_pct.")
        return None, None

    def record(self, evaluation: str, *, packages: Sequence[str] = (), **sets: dict[str, Any]) -> dict[str, Any]:
        """What the record of an evaluation begins with.

        Args:
            evaluation: its name.
            packages: further ones whose versions matter.
            sets: the records of its images, by their role.
        """
        extracted = next(iter(sets.values())).get("extracted")
        if extracted is None:
            how = model_record(self.model, self.encoder) | {
                "random_seed": self.random_seed,
                "preprocessing": preprocessing_record(self.card),
            }
        else:
            how = {"model": extracted.get("card"), "preprocessing": "as the features were extracted"}
        about = {"evaluation": evaluation, "protocol": self.protocol.name, "versions": versions(*packages)}
        return {**about, **how, **sets}


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent, of logits (n, C) and labels (n,)."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return {"acc1": 100 * float(best[:, 0].double().mean()), "acc5": 100 * float(best.any(dim=1).double().mean())}


def over_seeds(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (of the sample; ``None`` of one run) of each figure over runs, and its values."""
    found = {}
    for name in runs[0]:
        values = torch.tensor([run[name] for run in runs], dtype=torch.float64)
        spread = float(values.std()) if len(runs) > 1 else None
        found[name] = {"mean": float(values.mean()), "std": spread, "values": values.tolist()}
    return found


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds, if there are any and each comes once.

    Raises:
        ConfigError: there are none, one comes twice, or one is no seed.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"The seeds are {list(seeds)}; give at least one, and none twice.")
    for seed in seeds:
        check_seed(seed)
    return list(seeds)
