"""Labelled features of one encoder: computed from a source of images, or stored ones that ``adios extract`` wrote."""

from __future__ import annotations

import glob
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.extractor import FeatureExtractor, all_failed
from adios_zoo.features.feature_formats import ParquetFeatureFile
from adios_zoo.features.journal import Failure
from adios_zoo.features.read_file import open_features
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.models.card import Card
from adios_zoo.sources.labels import label_numbers, renumbered
from adios_zoo.sources.open import open_stream
from adios_zoo.sources.source import Source, Span, Stream
from adios_zoo.telling import progress_bar, tell

Labelled = tuple[str, Tensor, Iterable[str]]  # source, labels, names of the classes
_PREFIX = "parquet:"
MOST_BAD = 0.01  # share of images that may be unreadable
_MOST_CLASSES = 100_000  # unless there are more images; what has a number for each class would not fit in memory


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

    @property
    def labelled(self) -> Labelled:
        """What :func:`check_labels` asks for."""
        return self.record["source"], self.labels, self.classes


def features_of(
    model: nn.Module,
    source: str,
    *,
    limit: int | None = None,
    card: Card | None = None,
    progress: bool = False,
) -> Features:
    """Features of a source of images by a model, on the model's device.

    Args:
        model: maps (B, 3, S, S) to (B, D), such as an :class:`~adios_zoo.AdiosModel`.
        source: see :mod:`adios_zoo.sources`.
        limit: only the first so many images.
        card: how images are prepared; by default the model's own card says it.
        progress: draw a progress bar.

    Raises:
        ConfigError: there is no such kind of source.
        DataError: nothing is found, or more than a hundredth of the images cannot be read.
    """
    check_limit(limit)
    stream = open_stream(source)
    total = min(len(stream), limit or len(stream)) if isinstance(stream, Source) else None
    labels: dict[str, int] = {}

    def refs() -> Iterator[ImageRef]:
        for ref in stream.iterate(0, limit):
            labels[ref.id] = ref.label
            yield ref

    extractor = FeatureExtractor(
        model, card=card or cast("Card", model.card), device=str(next(model.parameters()).device)
    )
    ids: list[str] = []
    rows = []
    with progress_bar(total=total, show=progress, unit=" images", dynamic_ncols=True) as bar:
        batches = extractor._run(refs(), True)
        for some, features in batches:
            ids += some
            rows.append(torch.from_numpy(features))
            bar.update(len(some))
    failures = batches.failures
    if not rows:
        raise all_failed(failures)
    check_unreadable(source, len(ids), failures)
    record = source_record(stream, len(ids), len(failures))
    return Features(torch.cat(rows), torch.tensor([labels[id] for id in ids]), tuple(stream.classes), record)


def check_unreadable(source: str, read: int, failures: Sequence[Failure | ImageError]) -> None:
    """Name the images that could not be read on stderr.

    Raises:
        DataError: they are more than a hundredth of all, or all.
    """
    if not read or len(failures) > MOST_BAD * (read + len(failures)):
        first = f"; the first: {failures[0].id}: {failures[0].reason}" if failures else ""
        total = read + len(failures)
        raise DataError(f"{len(failures)} of {total} images of {source} cannot be read, too many for a figure{first}.")
    for failure in failures:
        tell(f"adios: {failure.id}: {failure.reason}")


def source_record(stream: Stream, images: int, unreadable: int) -> dict[str, Any]:
    """What a record says of the first so many images of a source."""
    taken = images + unreadable
    part = Span(stream, 0, taken) if isinstance(stream, Source) and taken < len(stream) else stream
    return {"source": stream.spec, "images": images, "unreadable": unreadable, "fingerprint": part.fingerprint()}


def labels_of(source: Source, limit: int | None = None) -> Features:
    """The labels of the first so many images, none of which is read; the features (n, 0) are empty."""
    count = len(source) if limit is None else min(limit, len(source))
    labels = torch.tensor([source[i].label for i in range(count)])
    return Features(torch.empty(count, 0), labels, tuple(source.classes), source_record(source, count, 0))


def is_stored(source: str) -> bool:
    """Whether a source is a parquet file, or a glob of such, that ``adios extract`` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = source.removeprefix(_PREFIX)
    if not path.lower().endswith(".parquet") or "://" in path:
        return False
    names = sorted(glob.glob(path)) or [path]  # noqa: PTH207 (takes no absolute pattern)
    first = next((name for name in names if Path(name).is_file()), None)
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
    import pyarrow as pa

    check_limit(limit)
    file = open_features(source.removeprefix(_PREFIX))
    assert isinstance(file, ParquetFeatureFile)  # no other has labels
    rows = torch.from_numpy(np.concatenate(list(_first(file.features(), limit))))
    try:
        column = list(_first(file.column("label"), limit))
    except DataError as error:
        raise DataError(
            f"{source}: it has no labels; write it anew by `adios extract` from images that have them."
        ) from error
    labels = label_numbers(pa.array(itertools.chain.from_iterable(column)), f"{source}: its column 'label'")
    record = {
        "source": source,
        "images": len(rows),
        "fingerprint": sha256(labels.tobytes() + rows.numpy().tobytes()).hexdigest(),
        "extracted": {key.removeprefix("adios."): value for key, value in file.metadata.items()},
    }
    return Features(rows, torch.tensor(labels), file.classes, record)


def _first(groups: Iterable[Any], limit: int | None) -> Iterator[Any]:
    """Groups of rows, cut off after ``limit`` rows."""
    left = sys.maxsize if limit is None else limit
    for group in groups:
        if left <= 0:
            return
        yield group[:left]
        left -= len(group)


def labelled(
    model: nn.Module | None,
    source: str,
    *,
    limit: int | None = None,
    card: Card | None = None,
    progress: bool = False,
) -> Features:
    """Features of images that all have labels, computed or stored.

    Args:
        model: see :func:`features_of`; not needed, and not asked, for stored features.
        source: a source of images, or a feature file of ``adios extract``.
        limit: only the first so many.
        card: see :func:`features_of`.
        progress: draw a progress bar.

    Raises:
        ConfigError: no such source, or no model for it.
        DataError: images without labels, or that cannot be read.
    """
    if is_stored(source):
        found = stored_features(source, limit=limit)
    elif model is None:
        raise ConfigError(f"{source} is no feature file of `adios extract`; images need a model.")
    else:
        found = features_of(model, source, limit=limit, card=card, progress=progress)
    check_labels(found.labelled)
    return found


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

    Arguments and errors are those of :func:`labelled`, for each set; besides:

    Raises:
        ConfigError: one set is stored and the other is not.
        DataError: classes that differ, or features of two models.
    """
    if is_stored(train) != is_stored(test):
        raise ConfigError(
            "Give two feature files, or two sources of images: a mixture may differ in its preprocessing."
        )
    sets = (
        labelled(model, train, limit=train_images, card=card, progress=progress),
        labelled(model, test, limit=test_images, card=card, progress=progress),
    )
    if sets[0].record.get("extracted") != sets[1].record.get("extracted"):
        raise DataError(f"{train} and {test} were made by different models, or in different precisions.")
    sets = sets[0], matched(sets[1], sets[0].labelled)
    check_labels(*(part.labelled for part in sets))
    return sets


def matched(test: Features, train: Labelled) -> Features:
    """Features with the numbers that the training images give to the classes of the same names.

    Raises DataError for a class that the training images lack.
    """
    source, known = train[0], tuple(train[2])
    labels = renumbered(test.labels.numpy(), test.classes, test.labelled[0], known=known, known_source=source)
    return replace(test, labels=torch.from_numpy(labels), classes=known if test.classes and known else test.classes)


def check_labels(*sets: Labelled) -> int:
    """The number of classes of sets of images, if all images have labels and the names of the classes agree.

    Args:
        sets: of each its source, its labels (n,), and the names of its classes, if it has any.

    Raises:
        DataError: they do not, or a label is beyond the classes that are named, or that there can be.
    """
    images = sum(len(labels) for _, labels, _ in sets)
    for source, labels, names in sets:
        if bool((labels < 0).any()):
            raise DataError(f"{source} has images without labels, which an evaluation needs.")
        known = len(tuple(names))
        if (highest := int(labels.max())) >= (known or max(images, _MOST_CLASSES)):
            why = f"names only {known} classes" if known else f"has {len(labels)} images"
            raise DataError(f"{source} {why}, but the label {highest}; labels are numbers of classes, from 0.")
    named = [(source, tuple(names)) for source, _, names in sets if tuple(names)]
    for source, names in named[1:]:
        if names != named[0][1]:
            raise DataError(
                f"{named[0][0]} and {source} name other classes or in another order, so their labels do not match."
            )
    counted = max(int(labels.max()) + 1 for _, labels, _ in sets)
    return max(counted, len(named[0][1]) if named else 0)


def check_limit(limit: int | None) -> None:
    """Refuse, as a ConfigError, a number of images that is none."""
    if limit is not None and limit < 1:
        raise ConfigError(f"The number of images is {limit}; it takes a whole number from 1 up.")
