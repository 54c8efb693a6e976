"""Labelled features of one encoder: computed from a source of images, or stored ones that ``adios extract`` wrote."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from adios_zoo.decoding import read_pixels
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.extract import FeatureExtractor, all_failed
from adios_zoo.feature_file import ParquetFeatureFile, open_features
from adios_zoo.images import ImageRef
from adios_zoo.model_card import Card
from adios_zoo.preprocess import Pixels
from adios_zoo.sources import Source, Span, open_stream

Alter = Callable[[Pixels, int], Pixels]
MOST_BAD = 0.01  # share of images that may be unreadable


@dataclass(frozen=True)
class Features:
    """Features of labelled images.

    Attributes:
        features: (n, D) float32.
        labels: (n,) int64, -1 where unknown.
        classes: names of the labels; empty where the source has none.
        record: source, number of images, fingerprint, and what else tells where they came from; plain data.
    """

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    record: dict[str, Any]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)


def features_of(
    model: nn.Module,
    source: str,
    *,
    limit: int | None = None,
    card: Card | None = None,
    alter: Alter | None = None,
    progress: bool = False,
) -> Features:
    """Features of a source of images by a model, on the model's device.

    Args:
        model: maps (B, 3, S, S) to (B, D), such as an :class:`~adios_zoo.AdiosModel`.
        source: see :mod:`adios_zoo.sources`.
        limit: only the first so many images.
        card: how images are prepared; by default the model's own card says it.
        alter: is given each image as the encoder sees it, before normalisation, (S, S, 3) uint8, and its number from
            0, and gives another one of that shape in its place.
        progress: draw a progress bar.

    Raises:
        ConfigError: there is no such kind of source.
        DataError: nothing is found, or more than a hundredth of the images cannot be read.
    """
    _check_limit(limit)
    stream = open_stream(source)
    total = min(len(stream), limit or len(stream)) if isinstance(stream, Source) else None
    card = card or cast("Card", model.card)
    labels: dict[str, int] = {}

    def refs() -> Iterator[ImageRef]:
        for number, ref in enumerate(stream.iterate(0, limit)):
            labels[ref.id] = ref.label
            yield ref if alter is None else _altered(ref, card, alter, number)

    # What was altered has been cropped already.
    shown = card if alter is None else card.replace(crop_pct=1.0, crop_mode="squash")
    extractor = FeatureExtractor(model, card=shown, device=str(next(model.parameters()).device))
    ids: list[str] = []
    rows = []
    with tqdm(total=total, disable=not progress, unit=" images", dynamic_ncols=True) as bar:
        for some, features in extractor._run(refs(), True):
            ids += some
            rows.append(torch.from_numpy(features))
            bar.update(len(some))
    failures = extractor.failures
    if not rows:
        raise all_failed(failures)
    if len(failures) > MOST_BAD * (len(ids) + len(failures)):
        raise DataError(
            f"{len(failures)} of {len(ids) + len(failures)} images of {source} cannot be read, too many for a figure; the "
            f"first: {failures[0].id}: {failures[0].reason}."
        )
    for failure in failures:
        print(f"adios: {failure.id}: {failure.reason}", file=sys.stderr)
    part = Span(stream, 0, len(ids) + len(failures)) if limit and isinstance(stream, Source) else stream
    record = {
        "source": source,
        "images": len(ids),
        "unreadable": len(failures),
        "fingerprint": part.fingerprint(),
    }
    return Features(torch.cat(rows), torch.tensor([labels[id] for id in ids]), tuple(stream.classes), record)


def _altered(ref: ImageRef, card: Card, alter: Alter, number: int) -> ImageRef:
    def read() -> Image.Image:
        return Image.fromarray(alter(read_pixels(ref, card), number))

    return replace(ref, read=read, encoded=None)


def is_stored(source: str) -> bool:
    """Whether a source is a parquet file, or a glob of such, that ``adios extract`` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not source.lower().endswith(".parquet") or "://" in source:
        return False
    first = next((path for path in sorted(glob.glob(source)) or [source] if Path(path).is_file()), None)
    if first is None:
        return False
    try:
        return {"path", "feature"} <= set(pq.read_schema(first).names)
    except pa.ArrowException:
        return False


def stored_features(source: str, *, limit: int | None = None) -> Features:
    """Labelled features from what ``adios extract`` wrote as parquet.

    Raises:
        ConfigError: an impossible limit.
        DataError: the file has no labels, or is no whole feature file.
    """
    _check_limit(limit)
    file = open_features(source)
    assert isinstance(file, ParquetFeatureFile)  # no other has labels
    rows = torch.from_numpy(np.concatenate(list(_first(file.features(), limit))))
    try:
        labels = np.concatenate([np.asarray(some, np.int64) for some in _first(file.column("label"), limit)])
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: its column 'label' has values that are no whole numbers.") from error
    except DataError as error:
        raise DataError(
            f"{source}: it has no labels; write it anew by `adios extract` from images that have them, in class folders say."
        ) from error
    record = {
        "source": source,
        "images": len(rows),
        "fingerprint": sha256(labels.tobytes() + rows.numpy().tobytes()).hexdigest(),
        "extracted": {key.removeprefix("adios."): value for key, value in file.metadata.items()},
    }
    return Features(rows, torch.from_numpy(labels), file.classes, record)


def _first(groups: Iterable[Any], limit: int | None) -> Iterator[Any]:
    """Groups of rows, cut off after ``limit`` rows."""
    left = sys.maxsize if limit is None else limit
    for group in groups:
        if left <= 0:
            return
        yield group[:left]
        left -= len(group)


def two_sets(
    model: nn.Module | None,
    train: str,
    test: str,
    *,
    card: Card | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
    progress: bool = False,
) -> tuple[Features, Features]:
    """Features to learn from and features to judge by, of images that all have labels of the same classes.

    Args:
        model: see :func:`features_of`; not needed, and not asked, where both sets are stored features.
        train: a source of images, or a feature file of ``adios extract``.
        test: of the same kind.
        card: see :func:`features_of`.
        train_images: only the first so many.
        test_images: only the first so many.
        progress: draw progress bars.

    Raises:
        ConfigError: one set is stored and the other is not, or a number is impossible.
        DataError: images without labels, classes that differ, or features of two models.
    """
    if is_stored(train) != is_stored(test):
        raise ConfigError(
            "Give two feature files, or two sources of images: a mixture may differ in its preprocessing."
        )
    if is_stored(train):
        sets = stored_features(train, limit=train_images), stored_features(test, limit=test_images)
        made = [part.record["extracted"] for part in sets]
        if made[0] != made[1]:
            raise DataError(f"{train} and {test} were made by different models, or in different precisions.")
    else:
        assert model is not None
        sets = (
            features_of(model, train, limit=train_images, card=card, progress=progress),
            features_of(model, test, limit=test_images, card=card, progress=progress),
        )
    check_labels(*((part.record["source"], part.labels, part.classes) for part in sets))
    return sets


def check_labels(*sets: tuple[str, Tensor, Iterable[str]]) -> int:
    """The number of classes of (source, labels, class names), if all images have labels and the names agree.

    Raises:
        DataError: they do not.
    """
    for source, labels, _ in sets:
        if bool((labels < 0).any()):
            raise DataError(f"{source} has images without labels, which an evaluation needs.")
    named = [(source, tuple(names)) for source, _, names in sets if tuple(names)]
    for source, names in named[1:]:
        if names != named[0][1]:
            raise DataError(
                f"{named[0][0]} and {source} name other classes or in another order, so their labels do not match."
            )
    counted = max(int(labels.max()) + 1 for _, labels, _ in sets)
    return max(counted, len(named[0][1]) if named else 0)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"The number of images is {limit}; it takes a whole number from 1 up.")
