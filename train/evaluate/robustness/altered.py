"""Accuracy on altered images of a classifier that was fitted to clean ones.

Images are altered as the encoder is given them: resized and cropped, before normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import ConfigError
from adios_zoo.features.decoding import read_pixels
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import Pixels, normalise
from adios_zoo.sources.open import open_stream
from adios_zoo.sources.source import Source
from adios_zoo.telling import progress_bar

from ..accuracy.linear import fit_linear, fit_record
from ..features import Features, check_labels, check_unreadable, is_stored, labelled, matched, source_record
from ..task import Task

K = TypeVar("K")
Alterations = Callable[[Tensor, int], Iterable[tuple[K, Tensor]]]
"""Given images (n, 3, S, S) uint8 and the number of the first, yields altered ones under a name each."""

_CHUNK = 32


class ProbeClassifier:
    """A task's encoder with a linear classifier, which is fitted to features of the task's training images.

    Attributes:
        task: the model and the images.
        probe: the classifier.
        trained_on: the features without their numbers: labels, classes and record.
        facts: what a record has to say of the classifier.

    Raises:
        ConfigError: the task's images are stored features, or there are none to train on.
        DataError: images without labels, or which cannot be read.
    """

    def __init__(self, task: Task, *, seed: int, features: Features | None = None) -> None:
        """``features`` are those of the training images, where they are known already."""
        for source in (task.training_source, task.test):
            if is_stored(source):
                raise ConfigError(f"{source} holds features; what is judged on altered images takes images throughout.")
        self.task = task
        found = features or labelled(
            task.encoder, task.training_source, limit=task.train_images, card=task.card, progress=task.progress
        )
        probe = fit_linear(found.features, found.labels, classes=check_labels(found.labelled), seed=seed)
        self.trained_on = replace(found, features=found.features[:, :0])
        self.facts = {"classifier": "linear", **fit_record(), "weight_decay": probe.weight_decay, "seed": seed}
        self.probe = probe

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Labels (n,) of prepared images (n, 3, S, S) uint8."""
        features = self.task.encoder(self.encoder_input(images).contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.probe(features.float().cpu())
        return logits.argmax(dim=1)

    def encoder_input(self, images: Tensor) -> Tensor:
        """Prepared images (n, 3, S, S) uint8 normalised, on the encoder's device."""
        x = torch.from_numpy(normalise(self.task.card, images.permute(0, 2, 3, 1).numpy()))
        return x.to(next(self.task.encoder.parameters()).device)


@dataclass(frozen=True)
class Judged(Generic[K]):
    """Accuracies in percent: on clean images, and under each alteration."""

    clean: float
    altered: dict[K, float]
    record: dict[str, Any]

    def drop(self, accuracy: float) -> float | None:
        """The part of the clean accuracy, in percent, that is lost; ``None`` where there was none to lose."""
        return 100 * (1 - accuracy / self.clean) if self.clean else None


def judge(classifier: ProbeClassifier, test: str, alterations: Alterations[K]) -> Judged[K]:
    """Accuracy on the images of a source, clean and altered; each is decoded once.

    As many of them are judged as the classifier's task says.

    Raises:
        DataError: images without labels, of other classes, or which cannot be read.
    """
    task, limit, trained_on = classifier.task, classifier.task.test_images, classifier.trained_on.labelled
    stream = open_stream(test)
    total = min(len(stream), limit or len(stream)) if isinstance(stream, Source) else None
    clean = number = 0
    hits: Counter[K] = Counter()
    bad: list[ImageError] = []
    with progress_bar(total=total, show=task.progress, unit=" images", dynamic_ncols=True) as bar:
        for images, labels in _chunks(stream.iterate(0, limit), task.card, bad):
            part = matched(Features(images, labels, stream.classes, {"source": test}), trained_on)
            labels = part.labels
            check_labels(trained_on, part.labelled)
            clean += int((classifier.predict(images) == labels).sum())
            for name, altered in alterations(images, number):
                hits[name] += int((classifier.predict(altered) == labels).sum())
            number += len(images)
            bar.update(len(images))
    check_unreadable(test, number, bad)
    record = source_record(stream, number, len(bad))
    return Judged(100 * clean / number, {name: 100 * count / number for name, count in hits.items()}, record)


def _chunks(refs: Iterator[ImageRef], card: Card, bad: list[ImageError]) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared images (n, 3, S, S) uint8 and their labels (n,); those that cannot be read are put aside."""
    with ThreadPoolExecutor(usable_cpus()) as pool:
        while some := list(islice(refs, _CHUNK)):
            pixels, labels = [], []
            for ref, read in zip(some, pool.map(partial(_read, card=card), some), strict=True):
                if isinstance(read, ImageError):
                    bad.append(read)
                else:
                    pixels.append(read)
                    labels.append(ref.label)
            if pixels:
                yield torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _read(ref: ImageRef, card: Card) -> Pixels | ImageError:
    try:
        return read_pixels(ref, card)
    except ImageError as error:
        return error


def nothing(images: Tensor, first: int) -> Iterator[tuple[Any, Tensor]]:
    """Alters nothing: only the clean images are judged."""
    return iter(())
