"""A masker's masks against what is known of the objects, beside baselines that give each figure its floor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageError
from adios_zoo.pictures.draw import crop_box
from adios_zoo.sources.open import open_stream
from adios_zoo.sources.source import Source
from adios_zoo.telling import progress_bar

from ..features import check_limit, check_unreadable, source_record
from ..models import load_encoder, model_record, versions
from ..protocol import protocol as protocol_of
from ..table import columns, number, title
from .best_slot import FOUND, best_boxes, best_masks
from .ground_truth import Truth, Void, truths
from .overlap import BACKGROUND, Floats, Overlap, covering, overlap
from .slots import Slots, Slotter, centred_box, file_slots, grid, masker_slots, one_slot

_GRID, _MOST_CELLS = 4, 256
_PAPER_BATCH = 128  # images of a batch in the authors' validation
_COVERING = ("mean_sc", "scaled_sc", "mean_ap", "scaled_ap")


def evaluate_segment(
    source: str,
    test: str,
    *,
    masks: Path | None = None,
    boxes: Path | None = None,
    void: Void = "auto",
    predicted: Path | None = None,
    protocol: str = "standard",
    crop_pct: float | None = None,
    grid_cells: int | None = None,
    test_images: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Judge the masks of a model, or given ones, by the ground truth of images.

    The ``standard`` protocol gives the masker the whole image, squashed to its size, and judges the whole image.
    ``paper`` gives it what the card says and judges that part, and computes ``mean_ap`` as the authors' code does,
    see :func:`.overlap.covering`, in batches of 128 images.

    Args:
        source: of the model, see :func:`adios_zoo.load_model`.
        test: images with masks of their own, or with ``masks`` or ``boxes``, see :mod:`adios_zoo.sources`.
        masks: folder of label maps under the images' names, see :func:`.ground_truth.truths`.
        boxes: JSON file of COCO's form.
        void: label of the pixels that are not judged.
        predicted: folder of masks ``NAME.npy``, (N, h, w) over the whole image, to be judged instead of a model's.
        protocol: ``standard`` or ``paper``.
        crop_pct: judge the centre crop of the card's crop mode at this share, whatever the protocol says.
        grid_cells: of the baseline; by default as many as the masker has slots, or four.
        test_images: only the first so many.
        seed: of the random masker.
        device: where the maskers run.
        progress: draw a progress bar.

    Returns:
        Settings, the record of the images, and ``figures``: for each way of making masks its scores, in percent.

    Raises:
        ConfigError: the model has no masker, or settings that exclude each other.
        DataError: no image has ground truth, or more than a hundredth of those that have it cannot be read.
    """
    check_limit(test_images)
    if grid_cells is not None and not 1 <= grid_cells <= _MOST_CELLS:
        raise ConfigError(f"The baseline's grid has 1 to {_MOST_CELLS} cells, not {grid_cells}.")
    prepared = protocol_of(protocol, crop_pct=crop_pct)
    whole = prepared.name == "standard" and crop_pct is None
    result: dict[str, Any] = {
        "evaluation": "segment",
        "protocol": prepared.name,
        "versions": versions("scikit-learn"),
        "model": None,
        "predicted": None,
    }
    card = None
    ways: dict[str, Slotter] = {}
    if predicted is None:
        model = load_encoder(source, device=device)
        if model.masker is None:
            raise ConfigError(f"{model.card.name} has no masker, whose masks could be judged.")
        ways["model"] = masker_slots(model)
        ways["random masker"] = masker_slots(load_encoder(source, random_seed=seed, device=device))
        grid_cells = model.masker.slots if grid_cells is None else grid_cells
        result |= model_record(source, model)
        card = None if whole else prepared.preprocessing(model.card)
    else:
        if not whole:
            raise ConfigError("Given masks cover the whole image: they take neither a crop nor the protocol paper.")
        ways["given masks"] = file_slots(predicted)
        result["predicted"] = str(predicted)
    grid_cells = _GRID if grid_cells is None else grid_cells
    ways |= {"one slot": one_slot, "centred box": centred_box, "grid": grid(grid_cells)}
    judge = _Judge(ways)
    stream = open_stream(test)
    total = len(stream) if isinstance(stream, Source) else None
    refs = progress_bar(
        stream.iterate(0, test_images),
        total=total if total is None or test_images is None else min(total, test_images),
        show=progress,
        unit="image",
        dynamic_ncols=True,
    )
    without = 0
    bad: list[ImageError] = []
    for truth in truths(iter(refs), masks=masks, boxes=boxes, void=void):
        if isinstance(truth, ImageError):
            bad.append(truth)
        elif truth is None or not judge.add(truth if card is None else truth.within(crop_box(*truth.image.size, card))):
            without += 1
    if bad:
        check_unreadable(test, judge.images, bad)
    if not judge.images:
        raise DataError(
            f"No image of {test} has ground truth: give label maps by --masks, boxes by --boxes, or a source whose "
            "images have masks."
        )
    return result | {
        "crop_pct": None if card is None else card.crop_pct,
        "crop_mode": "whole" if card is None else card.crop_mode,
        "void": void,
        "found_from_iou": FOUND,
        "grid": grid_cells,
        "seed": seed,
        "test": source_record(stream, judge.images + without, len(bad))
        | {
            "images": judge.images,
            "without_ground_truth": without,
            "objects": judge.objects,
            "ground_truth": str(masks or boxes or "of the source"),
            "ground_truth_fingerprint": judge.digest.hexdigest(),
        },
        "figures": {way: judge.figures(way, _PAPER_BATCH if prepared.name == "paper" else None) for way in ways},
    }


class _Judge:
    """Collects the scores of all images, for each way of making masks, and a digest of the ground truth as judged."""

    def __init__(self, ways: dict[str, Slotter]) -> None:
        self.images = self.objects = 0
        self.digest = hashlib.sha256()
        self._ways = ways
        self._overlaps: dict[str, list[Overlap]] = {way: [] for way in ways}
        self._boxes: dict[str, list[Floats]] = {way: [] for way in ways}

    def add(self, truth: Truth) -> bool:
        """Judge one image; whether there was anything to judge."""
        if truth.judged is None and not len(truth.boxes):
            return False
        if truth.judged is not None and not truth.judged.any():
            return False
        self.images += 1
        self.objects += len(truth.boxes)
        self.digest.update(truth.boxes.tobytes())
        if truth.labels is not None and truth.judged is not None:
            self.digest.update(np.where(truth.judged, truth.labels, 0).tobytes() + truth.judged.tobytes())
        for way, slotter in self._ways.items():
            slots: Slots = slotter(truth)
            self._boxes[way].append(best_boxes(truth.boxes, slots.numbers, slots.total))
            if truth.labels is not None and truth.judged is not None:
                found = overlap(truth.labels[truth.judged], slots.numbers[truth.judged], slots.total)
                self._overlaps[way].append(found)
        return True

    def figures(self, way: str, batch: int | None) -> dict[str, float | None]:
        """All scores in percent, means over the images, but of single objects over the objects."""
        overlaps = self._overlaps[way]
        found: dict[str, float | None] = {}
        if overlaps:
            found["ari"] = _percent(image.ari for image in overlaps)
            # With one object all of the foreground is one label, which says nothing of how it is divided.
            several = [image for image in overlaps if batch or (image.labels != BACKGROUND).sum() > 1]
            found["ari_foreground"] = _percent(image.ari_foreground for image in several)
            for suffix, foreground in (("", False), ("_foreground", True)):
                scores = list(_covering(overlaps, batch, foreground=foreground))
                found |= {f"{name}{suffix}": _percent(score[name] for score in scores) for name in _COVERING}
            found |= _located("mask", [best_masks(image) for image in overlaps])
        return found | _located("box", self._boxes[way])


def _covering(images: Sequence[Overlap], batch: int | None, *, foreground: bool) -> Iterator[dict[str, float]]:
    if batch is None:
        yield from (covering(image, foreground=foreground) for image in images)
        return
    rest = iter(images)
    while together := list(islice(rest, batch)):
        labels = {int(label) for image in together for label in image.labels}
        yield from (covering(image, foreground=foreground, batch_labels=labels) for image in together)


def _located(kind: str, images: Sequence[Floats]) -> dict[str, float | None]:
    """Mean best IoU, share of the objects that are found, share of the images that have one which is."""
    objects = np.concatenate(images)
    return {
        f"best_{kind}_iou": _percent(objects),
        f"found_by_{kind}": _percent(objects >= FOUND),
        f"corloc_{kind}": _percent(bool((image >= FOUND).any()) for image in images if len(image)),
    }


def _percent(scores: Iterable[float]) -> float | None:
    """Mean of the scores that are numbers: an image without objects has no score of its foreground."""
    values = np.array(list(scores), np.float64)
    values = values[~np.isnan(values)]
    return 100 * float(values.mean()) if len(values) else None


def segment_table(result: Mapping[str, Any]) -> str:
    """What :func:`evaluate_segment` found, as text."""
    figures, test = result["figures"], result["test"]
    names = next(iter(figures.values()))
    rows = [[name, *(number(column[name]) for column in figures.values())] for name in names]
    return (
        f"{title(result)} with {test['objects']} objects, and {test['without_ground_truth']} without ground truth\n\n"
        f"{columns(['%', *figures], rows)}"
    )
