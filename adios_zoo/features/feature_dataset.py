"""Features as a torch data set: probes and heads train on a feature file of any size, with or without labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.feature_file import FeatureFile
from adios_zoo.features.read_file import open_features
from adios_zoo.images.image import PathLike

Item: TypeAlias = "Tensor | tuple[Tensor, int]"


class FeatureDataset(Dataset["Item"]):
    """The rows of a feature file: ``dataset[i]`` is a float32 tensor (D,), with labels ``(tensor, int)``.

    Args:
        path: what ``adios extract`` wrote: .parquet, .npy, .safetensors or .csv, or a folder or glob of .parquet files.
        labels: where each row's label comes from:
            ``"folder"``, the folder that holds the image, by its id;
            ``"column:NAME"``, a column of the parquet file;
            ``"csv:PATH"``, a file with the columns ``path`` and ``label``, one line for each row's id, in any order.
            Names are numbered in sorted order, as folders always are; labels that are all whole numbers stay.
        cache_bytes: of features that each process keeps.

    Attributes:
        classes: the names behind the labels; empty where the labels are numbers already, or where there are none.
        labels: (n,) int64, or ``None``.
        file: the feature file: ``file.ids()``, ``file.metadata``.

    For a parquet file much larger than the cache, give the loader :class:`GroupShuffle` in place of ``shuffle=True``,
    which would read a whole row group for almost every row.  npy and safetensors are mapped, and any order
    serves.

    Raises ConfigError for another form of ``labels``, DataError for a file that is missing or not of this form, or
    a row without a label.
    """

    def __init__(self, path: PathLike, *, labels: str | None = None, cache_bytes: int = 256 << 20) -> None:
        self.file: FeatureFile = open_features(path, cache_bytes=cache_bytes)
        self.classes: tuple[str, ...] = ()
        self.labels: NDArray[np.int64] | None = None
        if labels is not None:
            self.labels, self.classes = _numbered(_labels(self.file, labels), len(self.file), names=labels == "folder")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.file)

    def __getitem__(self, index: int) -> Item:
        """One row."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """The rows of a batch, read group by group; a DataLoader calls this."""
        features = torch.from_numpy(self.file.take(indices))
        if self.labels is None:
            return list(features)
        return list(zip(features, self.labels[np.asarray(indices, np.int64)].tolist(), strict=True))


class GroupShuffle(Sampler[int]):
    """Row order for training on a large file: groups in random order, rows shuffled among some groups at a time.

    Every row comes once an epoch, and every group is read once, while ``groups`` of them (some thousand rows each)
    lie in the cache.  Each pass draws another order; ``set_epoch`` goes on from a given one after a restart.
    """

    def __init__(self, dataset: FeatureDataset, *, groups: int = 8, seed: int = 0) -> None:
        if groups < 1:
            raise ConfigError(f"groups is {groups}; give a whole number from 1 up.")
        self.dataset = dataset
        self.groups = groups
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass that of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        """One epoch's order."""
        random = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        groups = self.dataset.file.groups
        order = random.permutation(len(groups))
        for start in range(0, len(order), self.groups):
            rows = np.concatenate([np.asarray(groups[group]) for group in order[start : start + self.groups]])
            yield from random.permutation(rows).tolist()


def _labels(file: FeatureFile, labels: str) -> Iterator[object]:
    """Each row's label, a name or a number, as the file or the user gives it."""
    kind, _, rest = labels.partition(":")
    if labels == "folder":
        return _folders(file)
    if kind == "column" and rest:
        return (value for values in file.column(rest) for value in values)
    if kind == "csv" and rest:
        return _listed(file, Path(rest))
    raise ConfigError(f"labels is {labels!r}; give 'folder', 'column:NAME' or 'csv:PATH'.")


def _folders(file: FeatureFile) -> Iterator[str]:
    for id in file.ids():
        folder = PurePath(id).parent.name
        if not folder:
            raise DataError(f"{file.path}: the image {id} lies in no folder that could be its label.")
        yield folder


def _listed(file: FeatureFile, path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            if not {"path", "label"} <= set(table.fieldnames or ()):
                raise DataError(f"{path}: its first line does not name the columns path and label.")
            known = {row["path"]: row["label"] for row in table}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: these labels cannot be read ({error}).") from error
    for id in file.ids():
        label = known.get(id)
        if label is None:
            raise DataError(f"{path}: it has no label for {id}.")
        yield label


def _numbered(labels: Iterator[object], rows: int, *, names: bool) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers (rows,), and the names that the numbers stand for."""
    numbers: dict[object, int] = {}  # by first appearance, until all are known
    first = np.empty(rows, np.int64)
    for row, label in enumerate(labels):
        if label is None:
            raise DataError(f"Row {row} of the features has no label.")
        first[row] = numbers.setdefault(label, len(numbers))
    whole = {label: _whole(label) for label in numbers}
    if not names and all(number is not None for number in whole.values()):
        return np.array([whole[label] for label in numbers], np.int64)[first], ()
    classes = tuple(sorted(map(str, numbers)))
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place[str(label)] for label in numbers], np.int64)[first], classes


def _whole(label: object) -> int | None:
    try:
        number = int(str(label))
    except ValueError:
        return None
    return number if str(number) == str(label) else None
