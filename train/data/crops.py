"""Crops of images that are read, decoded and cropped ahead of their turn.

From a source with places, by the worker processes of torch's loader; from a stream, by threads.  In place of an
image that cannot be read another one is taken, and the failure is handed on.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.sources.source import Source, Stream

from ..chance import Draws, generator_for
from ..recipe.settings import Recipe, ViewSettings
from .given_masks import draw_objects, read_mask
from .plan import Plan
from .views import crop_boxes

_STAND_INS = 10  # images that are tried in place of one that cannot be read

Failure = tuple[str, str]  # where, and why


class Cropped(NamedTuple):
    """The crops of one batch.

    Attributes:
        crops: by number of the view, (B, 3 + N, S, S) uint8, the images and N masks where they are given with the
            data; empty if some image and all its stand-ins cannot be read.
        labels: (B,), -1 where unknown.
        images: (B,) their places in the data, or in the epoch of a stream.
        failures: what could not be read.
    """

    crops: dict[int, Tensor]
    labels: Tensor
    images: Tensor
    failures: list[Failure]


def crops_of_files(source: Source, plan: Plan, first: int, workers: int) -> Iterator[Cropped]:
    """The batches of a source with places, from number ``first`` on."""
    loader = DataLoader(
        _Items(source, plan.recipe, plan.count),
        batch_sampler=_Requests(plan, first),
        num_workers=workers,
        collate_fn=_stacked,
        worker_init_fn=_ignore_signals,
        pin_memory=plan.processes.device.type == "cuda",
        # Forked workers would inherit locked locks of the libraries that read remote files.
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def crops_of_stream(source: Stream, plan: Plan, first: int, threads: int) -> Iterator[Cropped]:
    """The batches of a stream, shuffled in a buffer, from number ``first`` on.

    Every process reads the whole stream and decodes its own part.  To go on within an epoch the stream is read, but not
    decoded, from the epoch's start.

    Raises:
        DataError: the stream has fewer images than the plan.
    """
    waiting: deque[list[Future[_Item]]] = deque()
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="adios-decode") as pool:
        for requests in _stream_requests(source, plan, first):
            waiting.append([pool.submit(_item, *request) for request in requests])
            if len(waiting) > 1:  # one is decoded while the other is used
                yield _stacked([item.result() for item in waiting.popleft()])
        for batch in waiting:
            yield _stacked([item.result() for item in batch])


def shuffled(refs: Iterator[ImageRef], buffer: int, generator: Generator) -> Iterator[ImageRef]:
    """The same in another order: each is drawn from a buffer of so many."""
    held = list(islice(refs, buffer))
    for ref in refs:
        k = int(torch.randint(len(held), (), generator=generator))
        yield held[k]
        held[k] = ref
    for k in torch.randperm(len(held), generator=generator).tolist():
        yield held[k]


def _stream_requests(source: Stream, plan: Plan, first: int) -> Iterator[list[tuple[Any, ...]]]:
    r, part = plan.recipe, plan.part
    for epoch in range(plan.epoch(first), r.epochs):
        generator = generator_for(r.seed, "stream", epoch)
        refs = shuffled(_whole(source, plan.count), r.shuffle_buffer, generator)
        for place in range(plan.batches_per_epoch):
            batch = list(islice(refs, r.batch_size))
            number = epoch * plan.batches_per_epoch + place
            if number >= first:
                yield [
                    # The next ones of the batch stand in.
                    ([*batch[i:], *batch[:i]][: 1 + _STAND_INS], epoch, place * r.batch_size + i, plan.size(number), r)
                    for i in range(part.start, part.stop)
                ]


def _whole(source: Stream, count: int) -> Iterator[ImageRef]:
    found = 0
    for ref in islice(source.iterate(), count):
        found += 1
        yield ref
    if found < count:
        raise DataError(f"{source.spec} has only {found} images; set images to at most that.")


@dataclass
class _Requests:
    """A list of (epoch, place, size) for every batch that is left."""

    plan: Plan
    first: int

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for number in range(self.first, self.plan.batches):
            epoch, size = self.plan.epoch(number), self.plan.size(number)
            yield [(epoch, place, size) for place in self.plan.chosen(number).tolist()]

    def __len__(self) -> int:
        return self.plan.batches - self.first


@dataclass
class _Items(Dataset[Any]):
    source: Source
    recipe: Recipe
    count: int

    def __getitem__(self, request: tuple[int, int, int]) -> _Item:
        epoch, place, size = request
        generator = generator_for(self.recipe.seed, "stand-in", epoch, place)
        stand_ins = torch.randint(self.count, (_STAND_INS,), generator=generator).tolist()
        return _item((self.source[i] for i in (place, *stand_ins)), epoch, place, size, self.recipe)


class _Item(NamedTuple):
    crops: dict[int, Tensor]
    label: int
    place: int
    failures: list[Failure]


def _item(refs: Iterable[ImageRef], epoch: int, place: int, size: int, recipe: Recipe) -> _Item:
    """Both views' crops of the first image that can be read; without crops if none can."""
    failures: list[Failure] = []
    for ref in refs:
        try:
            layers = [image := ref.read()]
            if recipe.masker.kind == "given":
                layers += _objects(read_mask(ref, image), epoch, place, recipe)
        except ImageError as error:
            failures.append((error.id, error.reason))
            continue
        draws = Draws(generator_for(recipe.seed, "crop", epoch, place), 1)
        crops = {v: _crop(layers, size, settings, draws) for v, settings in recipe.views.items()}
        return _Item(crops, ref.label, place, failures)
    return _Item({}, -1, place, failures)


def _objects(mask: Image.Image, epoch: int, place: int, recipe: Recipe) -> list[Image.Image]:
    """As many masks as are used, 255 where their object is."""
    draws = Draws(generator_for(recipe.seed, "objects", epoch, place), 1)
    objects = draw_objects(torch.from_numpy(np.array(mask))[None], recipe.drawn_masks, draws)[0]
    return [Image.fromarray(one.numpy()) for one in objects]


def _crop(layers: list[Image.Image], size: int, settings: ViewSettings, draws: Draws) -> Tensor:
    top, left, height, width = crop_boxes((layers[0].height, layers[0].width), settings, draws)[0].tolist()
    box = (left, top, left + width, top + height)
    resized = [np.asarray(layer.resize((size, size), Image.Resampling.BICUBIC, box=box)) for layer in layers]
    return torch.from_numpy(np.dstack(resized)).permute(2, 0, 1)


def _stacked(items: list[_Item]) -> Cropped:
    failures = [failure for item in items for failure in item.failures]
    if not all(item.crops for item in items):
        return Cropped({}, torch.empty(0), torch.empty(0), failures)
    crops = {v: torch.stack([item.crops[v] for item in items]) for v in items[0].crops}
    labels, images = (torch.tensor([getattr(item, name) for item in items]) for name in ("label", "place"))
    return Cropped(crops, labels, images, failures)


def _ignore_signals(_: int) -> None:
    # The main process decides when to leave; Ctrl-C and a cluster's SIGTERM reach its workers too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
