"""Occlusion: how much accuracy is left when a growing share of the image is hidden."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from adios_zoo.errors import ConfigError

from ...chance import Draws, generator_for, seed_for
from ...game.random_masks import random_masks
from ..table import columns, number, title
from ..task import Task
from .altered import ProbeClassifier, judge

Occlusion = Literal["patches", "block"]
OCCLUSIONS: tuple[Occlusion, ...] = ("patches", "block")
SLOTS = "slots"  # by the model's own masker
_SLOT = "slot"
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)

_CELLS = 8  # patches along a side, unless a patch's size is given
GREY = (0.5, 0.5, 0.5)


def occluded(
    images: Tensor,
    share: float,
    *,
    kind: Occlusion = "patches",
    seed: int = 0,
    patch: int | None = None,
    fill: Sequence[float] = GREY,
    first: int = 0,
) -> Tensor:
    """Images with a share of their area hidden.

    What an image loses is decided by the seed and the image's number alone, whatever batch it comes in, and a larger
    share hides what a smaller one does and more.

    Args:
        images: (n, 3, S, S) uint8; they are left as they are.
        share: of the area, from 0 (nothing) to 1 (everything).
        kind: ``patches`` hides random patches of a grid, ``block`` one square at the centre.
        seed: of the random patches.
        patch: side of a patch in pixels; by default an eighth of S.
        fill: colour of what is hidden, three numbers in [0, 1].
        first: number of the first image.

    Returns:
        (n, 3, S, S) uint8.

    Raises:
        ConfigError: a share, a patch or a kind that there is not.
    """
    hidden = occlusion_masks(len(images), images.shape[-1], share, kind=kind, seed=seed, patch=patch, first=first)
    colour = (255 * torch.tensor(fill)).round().to(images).view(3, 1, 1)
    return torch.where(hidden.to(images.device), colour, images)


def occlusion_masks(
    count: int, size: int, share: float, *, kind: Occlusion, seed: int, patch: int | None = None, first: int = 0
) -> Tensor:
    """Where :func:`occluded` hides: (count, 1, size, size), true there."""
    check_share(share)
    if kind == "block":
        side = round(math.sqrt(share) * size)
        start = (size - side) // 2
        block = torch.zeros(count, 1, size, size, dtype=torch.bool)
        block[..., start : start + side, start : start + side] = True
        return block
    if kind != "patches":
        raise ConfigError(f"There is no occlusion {kind!r}; it is one of {', '.join(OCCLUSIONS)}.")
    patch = default_patch(size) if patch is None else patch
    check_patch(patch, size)
    drawn = [
        random_masks("patches", size, 1, Draws(generator_for(seed, "occlusion", number), 1), ratio=share, patch=patch)
        for number in range(first, first + count)
    ]
    return torch.cat(drawn).bool() if drawn else torch.zeros(0, 1, size, size, dtype=torch.bool)


def default_patch(size: int) -> int:
    """Side of a patch of images of this side: an eighth of it."""
    return max(1, size // _CELLS)


def check_patch(patch: int, size: int) -> None:
    """Refuse, as a ConfigError, a side of patches that images of this side have no room for."""
    if not 1 <= patch <= size:
        raise ConfigError(f"A patch has a side of 1 to {size} pixels, the side of the images, not {patch}.")


def check_share(share: float) -> None:
    """Refuse, as a ConfigError, what is no share."""
    if not 0 <= share <= 1:
        raise ConfigError(f"The share that is hidden is {share}; it takes a number from 0 to 1.")


def evaluate_occlusion(
    task: Task,
    *,
    kinds: Sequence[str] = (),
    shares: Sequence[float] = SHARES,
    patch: int | None = None,
    seed: int = 0,
    classifier: ProbeClassifier | None = None,
) -> dict[str, Any]:
    """Accuracy of a linear classifier, fitted to clean images, as a growing share of each test image is hidden.

    What is hidden has the mean colour of the encoder's training images, its input's zero.

    Args:
        task: the model and the images.
        kinds: of ``patches`` and ``block``, see :func:`occluded`, and ``slots``, which hides the pixels that one slot
            of the model's own masker, drawn for each image, has the most of; none: all that the model has.  With
            ``slots`` each slot's soft mask is cut out by itself, too, as in training.
        shares: of the area that is hidden.
        patch: side of a patch in pixels; by default an eighth of the image's.
        seed: of what is random.
        classifier: of this task, where it is fitted already.

    Returns:
        Settings, records of the images, ``clean`` accuracy, ``accuracy`` by kind and share, ``drop``: the part of the
        clean accuracy that is lost, and with ``slots`` each slot's mean ``area`` and ``accuracy``; in percent.

    Raises:
        ConfigError: unknown kinds, impossible shares or patches, or ``slots`` of a model without a masker.
        DataError: images without labels, or which cannot be read.
    """
    masker = task.encoder.masker
    # Once each: hits are counted by kind and share.
    kinds = list(dict.fromkeys(kinds or [*OCCLUSIONS, *([SLOTS] if masker else [])]))
    shares = list(dict.fromkeys(shares))
    for kind in kinds:
        if kind not in (*OCCLUSIONS, SLOTS):
            raise ConfigError(f"There is no occlusion {kind!r}; use some of {', '.join((*OCCLUSIONS, SLOTS))}.")
    if SLOTS in kinds and masker is None:
        raise ConfigError(f"{task.encoder.card.name} has no masker, whose slots could be hidden.")
    for share in shares:
        check_share(share)
    size = task.card.input_size
    patch = default_patch(size) if patch is None else patch
    check_patch(patch, size)
    classifier = classifier or ProbeClassifier(task, seed=seed)
    hiding = _Hiding(classifier, kinds, shares, patch, seed)
    found = judge(classifier, task.test, hiding)
    accuracy = {kind: {f"{share:g}": found.altered[kind, share] for share in shares} for kind in kinds}
    result = {
        **task.record("robust occlusion", train=classifier.trained_on.record, test=found.record),
        **classifier.facts,
        "patch": patch,
        "clean": found.clean,
        "accuracy": accuracy,
        "drop": {kind: {share: found.drop(value) for share, value in row.items()} for kind, row in accuracy.items()},
    }
    if SLOTS in kinds:
        areas = enumerate((hiding.areas / found.record["images"]).tolist())
        result["slots"] = [{"area": 100 * area, "accuracy": found.altered[_SLOT, slot]} for slot, area in areas]
    return result


class _Hiding:
    """Hides each share in each way, and adds up the areas of the masker's slots."""

    def __init__(
        self, classifier: ProbeClassifier, kinds: Sequence[str], shares: Sequence[float], patch: int | None, seed: int
    ) -> None:
        self.areas: Tensor = torch.zeros(())
        self._classifier, self._kinds, self._shares, self._patch, self._seed = classifier, kinds, shares, patch, seed
        self._mean = classifier.task.card.mean

    def __call__(self, images: Tensor, first: int) -> Iterator[tuple[tuple[str, float], Tensor]]:
        for kind in self._kinds:
            if kind == SLOTS:
                yield from self._by_masker(images, first)
                continue
            for share in self._shares:
                yield (
                    (kind, share),
                    occluded(
                        images,
                        share,
                        kind=cast("Occlusion", kind),
                        seed=self._seed,
                        patch=self._patch,
                        fill=self._mean,
                        first=first,
                    ),
                )

    def _by_masker(self, images: Tensor, first: int) -> Iterator[tuple[tuple[str, float], Tensor]]:
        with torch.inference_mode():
            masks = self._classifier.task.encoder.masks(self._classifier.encoder_input(images)).float().cpu()
        self.areas = self.areas + masks.mean(dim=(2, 3)).sum(dim=0)
        for slot in range(masks.shape[1]):
            yield (_SLOT, slot), self._cut_out(images, masks[:, slot : slot + 1])
        numbers = range(first, first + len(images))
        drawn = [seed_for(self._seed, "slot", number) % masks.shape[1] for number in numbers]
        weights = masks[torch.arange(len(masks)), drawn].flatten(1)
        order = weights.argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(-1, 1, *masks.shape[2:])
        for share in self._shares:
            yield (SLOTS, share), self._cut_out(images, (order < round(share * weights.shape[1])).float())

    def _cut_out(self, images: Tensor, mask: Tensor) -> Tensor:
        mean = 255 * torch.tensor(self._mean).view(3, 1, 1)
        return (images * (1 - mask) + mean * mask).round().to(torch.uint8)


def occlusion_table(result: Mapping[str, Any]) -> str:
    """What :func:`evaluate_occlusion` found, as text."""
    rows = [
        [share, *(f"{row[share]:.2f}{_lost(result['drop'][kind][share])}" for kind, row in result["accuracy"].items())]
        for share in next(iter(result["accuracy"].values()))
    ]
    text = (
        f"{title(result)}\n\nTop-1 accuracy in %: {result['clean']:.2f} on whole images; with a share hidden, "
        f"and the change:\n\n{columns(['share', *result['accuracy']], rows)}"
    )
    if "slots" not in result:
        return text
    slots = [[str(i), number(slot["area"]), number(slot["accuracy"])] for i, slot in enumerate(result["slots"], 1)]
    return f"{text}\n\nWithout what one slot of the masker hides:\n\n{columns(['slot', 'area, %', 'top-1, %'], slots)}"


def _lost(drop: float | None) -> str:
    return "" if drop is None else f" ({-drop:+.0f} %)"
