"""Looking at a run between epochs: mask pictures of a few fixed images, and the encoder's k-NN accuracy.

Looking changes nothing: networks are read in evaluation mode without gradient, the images are chosen by a generator
of their own, and a run that is looked at ends bit-identical to one that is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import DataError
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.models.card import Card
from adios_zoo.search.knn import knn
from adios_zoo.sources.labels import renumbered
from adios_zoo.sources.source import Source, Stream

from ..chance import generator_for
from ..data.in_memory import ImageSet
from ..recipe.settings import ObserveSettings
from .pictures import picture_path, seen_masks, write_picture
from .record import RunLog

_LOOKS = 20  # a run, where no interval is set


@dataclass(frozen=True)
class Shown:
    """The fixed images of a run.

    Attributes:
        pictures: those of the mask pictures, (n, 3, S, S) uint8.
        gallery: those that vote; ``None`` if too few are labelled.
        queries: those that are judged, none of them in the gallery.
    """

    pictures: Tensor
    gallery: ImageSet | None
    queries: ImageSet | None


def choose_shown(
    data: ImageSet | Stream, held_out: Stream | None, settings: ObserveSettings, *, seed: int, side: int
) -> Shown:
    """Choose the images to look at, by the seed alone.

    Args:
        data: the training images.
        held_out: labelled images that the run does not train on, to be the queries; without them queries are
            training images, whose labels no network but the linear probe has seen.
        settings: how many.
        seed: the run's.
        side: in pixels, of images that are not in memory yet.

    Raises:
        DataError: the held-out images have no labels, or none can be read.
    """
    s = settings
    sample = _sample(data, max(s.pictures, s.gallery + s.queries), side, generator_for(seed, "observe", 0))
    pictures, labelled = sample.images[: s.pictures], _labelled(sample)
    if s.knn_every == 0:
        return Shown(pictures, None, None)
    if held_out is not None:
        queries, gallery = _labelled(_sample(held_out, s.queries, side, generator_for(seed, "observe", 1))), labelled
        queries.labels = torch.from_numpy(
            renumbered(
                queries.labels.numpy(),
                queries.classes,
                held_out.spec,
                known=gallery.classes,
                known_source="the training images" if isinstance(data, ImageSet) else data.spec,
            )
        )
        if not len(queries):
            raise DataError(f"The held-out images of {held_out.spec} have no labels, which k-NN needs.")
    else:
        count = s.queries * min(len(labelled), s.gallery + s.queries) // (s.gallery + s.queries)
        queries, gallery = _part(labelled, slice(count)), _part(labelled, slice(count, None))
    gallery = _part(gallery, slice(s.gallery))
    if not len(queries) or bool((gallery.labels == gallery.labels[:1]).all()):
        return Shown(pictures, None, None)
    return Shown(pictures, gallery, queries)


def _sample(data: ImageSet | Stream, count: int, side: int, generator: torch.Generator) -> ImageSet:
    """Some images in random order, labelled ones first; of a stream, which has no places, the first."""
    if isinstance(data, ImageSet):
        order = torch.randperm(len(data), generator=generator)
        order = order[(data.labels[order] < 0).to(torch.uint8).argsort(stable=True)]
        return _part(data, order[:count])
    if isinstance(data, Source):
        order = torch.randperm(len(data), generator=generator)[:count]
        # Neighbours are read together; files of many images like that.
        refs, back = [data[i] for i in order.sort().values.tolist()], order.argsort().argsort()
    else:
        refs = list(data.iterate(0, count))
        back = torch.arange(len(refs))
    with ThreadPoolExecutor(usable_cpus()) as pool:
        read = list(pool.map(lambda ref: _read(ref, side), refs))
    found = [(image, refs[i].label) for i in back.tolist() if (image := read[i]) is not None]
    if not found:
        raise DataError(f"None of {len(refs)} images of {data.spec} could be read.")
    images = torch.from_numpy(np.stack([image for image, _ in found])).permute(0, 3, 1, 2)
    return ImageSet(images, torch.tensor([label for _, label in found]), list(data.classes), "", [])


def _read(ref: ImageRef, side: int) -> NDArray[np.uint8] | None:
    try:
        return np.asarray(ImageOps.fit(ref.read(), (side, side), Image.Resampling.BICUBIC))
    except ImageError:
        return None  # the run itself counts and lists it


def _labelled(data: ImageSet) -> ImageSet:
    return _part(data, data.labels >= 0)


def _part(data: ImageSet, index: Tensor | slice) -> ImageSet:
    return ImageSet(data.images[index], data.labels[index], data.classes, data.fingerprint, [])


class Observer:
    """Looks at the networks of a run when it is due, in the one process that writes files.

    Args:
        settings: what, and when.
        shown: the images.
        encoder: maps (B, 3, H, W) to features.
        masker: maps (B, 3, H, W) to masks; ``None`` for a game without one, which has no mask pictures.
        card: the run's, whose transform the images go through.
        sizes: side of the images in pixels after 0, 1, ... epochs; the last is that of the run's last epoch.
    """

    def __init__(
        self,
        settings: ObserveSettings,
        shown: Shown,
        encoder: nn.Module,
        masker: nn.Module | None,
        card: Card,
        sizes: list[int],
    ) -> None:
        self.settings, self.shown, self.card, self.sizes = settings, shown, card, sizes
        self.encoder, self.masker = encoder, masker

    def look(self, run: Path, log: RunLog, *, epoch: int, step: int) -> dict[str, float]:
        """Write and log what is due after so many epochs and steps; the figures."""
        s, last = self.settings, len(self.sizes) - 1
        card = self.card.replace(input_size=self.sizes[epoch])
        found: dict[str, float] = {}
        with _undisturbed(self.encoder, *([] if self.masker is None else [self.masker])):
            if self.shown.gallery is not None and _due(epoch, last, s.knn_every):
                found = self._knn(card)
                log.write({"step": step, "epoch": epoch, **found})
            if self.masker is not None and _due(epoch, last, s.pictures_every):
                path = picture_path(run, epoch)
                images, masks = seen_masks(self.masker, self.shown.pictures, card)
                caption = f"{card.name}  ·  step {step}  ·  {card.input_size} x {card.input_size} pixels"
                write_picture(path, images, masks, epoch=epoch, caption=caption)
                log.picture(path, step)
        return found

    def _knn(self, card: Card) -> dict[str, float]:
        gallery, queries = self.shown.gallery, self.shown.queries
        assert gallery is not None
        assert queries is not None
        extractor = FeatureExtractor(self.encoder, card=card, device=str(next(self.encoder.parameters()).device))
        train, test = (
            torch.from_numpy(extractor.extract(part.images.permute(0, 2, 3, 1).numpy())) for part in (gallery, queries)
        )
        accuracy = knn(
            train,
            gallery.labels,
            test,
            queries.labels,
            k=min(self.settings.k, len(gallery)),
        )
        return {"knn_top1": accuracy.acc1, "knn_top5": accuracy.acc5}


def _due(epoch: int, last: int, every: int | None) -> bool:
    if every == 0:
        return False
    return epoch == last or epoch % (every or math.ceil(last / _LOOKS) or 1) == 0


@contextmanager
def _undisturbed(*networks: nn.Module) -> Iterator[None]:
    """Within, the networks are in evaluation mode; after it, they and torch's random numbers are as before."""
    before = [(module, module.training) for network in networks for module in network.modules()]
    devices = {p.device for network in networks for p in network.parameters() if p.device.type == "cuda"}
    try:
        for network in networks:
            network.eval()
        with torch.random.fork_rng(devices=list(devices)), torch.inference_mode():
            yield
    finally:
        for module, training in before:
            module.training = training
