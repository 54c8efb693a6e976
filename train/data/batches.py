"""Batches of views for each step of a run, from images in memory or from crops that come in as they are needed.

A batch is a function of the seed and of its number, so a run resumes anywhere, and does not depend on the number of
processes that share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from adios_zoo.errors import DataError

from ..chance import Draws
from .crops import Cropped, Failure
from .given_masks import draw_objects
from .in_memory import ImageSet
from .plan import Plan
from .views import draw_views, views_of_crops


class Batch(NamedTuple):
    """The images of one batch that fall to this process.

    Attributes:
        views: by number, (B, 3, S, S) float32, normalised.
        labels: (B,), -1 where unknown.
        images: (B,) their places in the data.
        masks: of each view, (B, N, S, S) float32; empty unless they are given with the data.
    """

    views: dict[int, Tensor]
    labels: Tensor
    images: Tensor
    masks: Mapping[int, Tensor] = MappingProxyType({})


class Batches(Protocol):
    """Where batches come from.

    ``failures`` has (where, reason) of every image that could not be read.
    """

    failures: list[Failure]

    def __call__(self, number: int, draws: Draws) -> Batch:
        """Batch ``number``; they are asked for one after the other, from wherever a run goes on."""


@dataclass
class InMemory:
    """Small images that lie decoded in the device's memory, where whole batches are cropped and coloured together."""

    data: ImageSet
    plan: Plan
    failures: list[Failure] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Bring the images to the device."""
        device = self.plan.processes.device
        self.images, self.labels = self.data.images.to(device), self.data.labels.to(device)
        self.masks = None if self.data.masks is None else self.data.masks.to(device)
        self.failures = list(self.data.failures)

    def __call__(self, number: int, draws: Draws) -> Batch:
        """Batch ``number``."""
        r, size = self.plan.recipe, self.plan.size(number)
        chosen = self.plan.chosen(number)
        here = chosen.to(self.images.device, non_blocking=True)
        images = self.images[here]
        if self.masks is not None:
            objects = draw_objects(self.masks[here], r.drawn_masks, self.plan.draws(number, "objects"))
            images = torch.cat([images, objects], dim=1)
        views = {v: draw_views(images, size, s, draws, mean=r.mean, std=r.std) for v, s in r.views.items()}
        return _batch(views, self.labels[here], chosen)


@dataclass
class Incoming:
    """Crops that come in batch by batch, see ``crops.py``; only their colours are done here, on the device."""

    crops: Iterator[Cropped]
    plan: Plan
    failures: list[Failure] = field(default_factory=list)

    def __call__(self, number: int, draws: Draws) -> Batch:
        """Batch ``number``."""
        r, device = self.plan.recipe, self.plan.processes.device
        came = next(self.crops)
        self.failures += [failure for failure in dict.fromkeys(came.failures) if failure not in self.failures]
        if not came.crops:
            last = ": ".join(came.failures[-1])
            raise DataError(f"An image and all that were tried in its place cannot be read; the last: {last}.")
        views = {
            v: views_of_crops(came.crops[v].to(device, non_blocking=True), s, draws, mean=r.mean, std=r.std)
            for v, s in r.views.items()
        }
        return _batch(views, came.labels.to(device, non_blocking=True), came.images)


def _batch(views: dict[int, Tensor], labels: Tensor, images: Tensor) -> Batch:
    """Views (B, 3 + N, S, S) and the masks that are their last channels, apart."""
    masks = {v: x[:, 3:].contiguous() for v, x in views.items() if x.shape[1] > 3}
    views = {v: x[:, :3].contiguous(memory_format=torch.channels_last) for v, x in views.items()}
    return Batch(views, labels, images, masks)
