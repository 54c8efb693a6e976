"""A classifier on an encoder, trained on augmented images with labels: the head alone, or all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import AdiosError, ConfigError
from adios_zoo.features.journal import Failure
from adios_zoo.models.card import Card
from adios_zoo.models.encoder import feature_width
from adios_zoo.models.model import AdiosModel
from adios_zoo.sources.open import open_source
from adios_zoo.telling import progress_bar

from ...chance import seed_for
from ...data.feed import Feed, open_feed
from ...data.plan import Plan
from ...game.optim import LARS
from ...processes import Processes
from ...recipe.settings import Recipe, ViewSettings
from ..features import check_labels, check_unreadable, is_stored, labels_of, matched, source_record
from ..protocol import Training
from ..task import Task

# What the authors' evaluations augment by: nothing but the crop and the flip.
_CROPS = ViewSettings(jitter=0.0, grey=0.0, blur=0.0)
_MOMENTUM = 0.9
_LARS_ETA = 0.001


class Classifier(nn.Module):
    """Logits (B, C) of images (B, 3, S, S).

    Attributes:
        encoder: its features, or with ``frozen`` its features without gradient, go into the head.
        head: a linear layer.
        card: says how images are prepared.
    """

    def __init__(self, encoder: nn.Module, classes: int, card: Card, *, frozen: bool) -> None:
        super().__init__()
        self.encoder, self.card, self.frozen = encoder, card, frozen
        self.head = nn.Linear(feature_width(encoder), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder(x)
        return cast("Tensor", self.head(features))

    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        return list((self.head if self.frozen else self).parameters())


@dataclass(frozen=True)
class _OneView(Recipe):
    """The part of a recipe that decides batches, with one view instead of two."""

    @property
    def views(self) -> dict[int, ViewSettings]:
        """The one view."""
        return {1: self.view1}


class TrainingImages:
    """The labelled images that a task has to learn from, with a batch for every step.

    Args:
        task: the model and the images.
        training: decides the batches.
        workers: processes that read images which do not fit in memory; one a core by default.

    Attributes:
        record: what a record of an evaluation says of them.
        classes: how many they and the test images have together.
        device: where the model is.

    Raises:
        ConfigError: stored features, fewer images than a batch, or an impossible number of workers.
        DataError: images without labels, classes that differ from the test images', or images that cannot be read.
    """

    def __init__(self, task: Task, training: Training, *, workers: int | None = None) -> None:
        if workers is not None and workers < 0:
            raise ConfigError(f"workers is {workers} and takes 0 or more.")
        source = task.training_source
        if is_stored(source) or is_stored(task.test):
            raise ConfigError("Augmented images cannot be stored features: give sources of images.")
        card = task.encoder.card
        self.recipe = _OneView(
            epochs=training.epochs,
            batch_size=training.batch_size,
            image_size=card.input_size,
            sizes=training.first_epochs(),
            images=task.train_images,
            mean=card.mean,
            std=card.std,
            view1=_CROPS,
        )
        for size in training.sizes:
            _check_size(task.encoder, size)
        self.training, self.workers = training, usable_cpus() if workers is None else workers
        self.device = next(task.encoder.parameters()).device
        self.stream = open_source(source)  # a stream has no epochs
        self.feed: Feed = open_feed(source, self.recipe)
        bad = self.feed.images.failures if self.feed.images else []
        self.record = source_record(self.stream, self.feed.count + len(bad), 0)
        self._leave_out(bad)
        # Told now, not after the training.
        self.labelled = labels_of(self.stream, task.train_images).labelled
        test = matched(labels_of(open_source(task.test), task.test_images), self.labelled)
        self.classes = check_labels(self.labelled, test.labelled)

    def train(self, classifier: Classifier, *, seed: int, progress: bool) -> float:
        """Train a classifier on them; the mean loss of the last epoch.

        Raises:
            AdiosError: the loss is not finite.
            ConfigError: batch norms that follow the images have a batch of a single number to do so.
            DataError: more than a hundredth of the images cannot be read, or one and all tried in its place.
        """
        t = self.training
        plan = Plan(replace(self.recipe, seed=seed), self.feed.count, Processes(self.device))
        batches = self.feed.batches(plan, first=0, workers=self.workers)
        optimiser = _optimiser(t, classifier)
        classifier.train()
        if classifier.frozen or t.frozen_statistics:
            classifier.encoder.eval()
        losses = torch.zeros((), device=self.device)
        with progress_bar(total=plan.batches, show=progress, unit=" batches", dynamic_ncols=True) as bar:
            for number in range(plan.batches):
                for group in optimiser.param_groups:
                    group["lr"] = t.rate(number / plan.batches_per_epoch)
                batch = batches(number, plan.draws(number))
                loss = F.cross_entropy(self._logits(classifier, batch.views[1]), batch.labels)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                if number % plan.batches_per_epoch == 0:
                    _check_finite(losses, number)
                    self._leave_out(batches.failures)
                    losses = torch.zeros((), device=self.device)
                losses += loss.detach()
                bar.update()
        _check_finite(losses, plan.batches)
        self._leave_out(batches.failures)
        classifier.eval()
        return float(losses) / plan.batches_per_epoch

    def _logits(self, classifier: Classifier, images: Tensor) -> Tensor:
        try:
            return cast("Tensor", classifier(images))
        except ValueError as error:  # of batch norm, which has no variance to divide by
            if self.training.batch_size > 1:
                raise
            raise ConfigError(
                f"At {images.shape[-1]} pixels the batch norms cannot follow the images with a batch size of 1; take 2 "
                "or more, or --frozen-statistics."
            ) from error

    def _leave_out(self, found: Sequence[tuple[str, str]]) -> None:
        """Count what could not be read so far, once, and refuse more than a hundredth."""
        if len(found) <= self.record["unreadable"]:
            return
        readable = self.record["images"] + self.record["unreadable"] - len(found)
        check_unreadable(self.record["source"], readable, [Failure(*one) for one in found])
        self.record |= {"images": readable, "unreadable": len(found)}


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Within, torch's random numbers are decided by the seed; after it they are as before."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed_for(seed, purpose))
        yield


def _check_size(encoder: AdiosModel, size: int) -> None:
    try:
        with torch.inference_mode():
            encoder(torch.zeros(1, 3, size, size, device=next(encoder.parameters()).device))
    except Exception as error:  # each network has its own way to say so
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ConfigError(
            f"{encoder.card.name} takes no images of {size} pixels ({reason}); leave --sizes out."
        ) from error


def _optimiser(training: Training, classifier: Classifier) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": training.lr, "momentum": _MOMENTUM, "weight_decay": training.weight_decay}
    if training.optimiser == "lars":
        return LARS(classifier.trained(), eta=_LARS_ETA, clip=False, **settings)
    return torch.optim.SGD(classifier.trained(), **settings)


def _check_finite(losses: Tensor, step: int) -> None:
    if not bool(torch.isfinite(losses)):
        raise AdiosError(f"The loss is not finite after {step} steps; take a lower --lr, or --optimiser lars.")
