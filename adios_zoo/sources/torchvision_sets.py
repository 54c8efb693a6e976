"""Data sets of torchvision: ``torchvision:NAME[:SPLIT]``.

They lie in the folder named by ``ADIOS_DATASETS``, else in ``datasets`` in :func:`adios_zoo.environment.cache_home`, as
torchvision lays them out there; nothing is fetched unless that is asked for.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.environment import cache_home, expanded
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageRef, PathLike
from adios_zoo.images.rgb import to_rgb
from adios_zoo.sources.files import Files
from adios_zoo.sources.find import Found
from adios_zoo.sources.source import Source

_SAMPLES = 1000


class _Set(NamedTuple):
    """One data set: its splits, the default first, and the names by which torchvision keeps what is in it.

    Attributes:
        splits: none if it has no splits.
        labels: attribute with the labels.
        files: attribute with the paths; None if the images lie in memory.
        pairs: attribute with (path, label) pairs instead of these two.
    """

    splits: tuple[str, ...]
    labels: str = ""
    files: str | None = None
    pairs: str = ""


_TRAIN_TEST = ("train", "test")
_SETS = {
    "CIFAR10": _Set(_TRAIN_TEST, "targets"),
    "CIFAR100": _Set(_TRAIN_TEST, "targets"),
    "Country211": _Set(("train", "valid", "test"), pairs="samples"),
    "DTD": _Set(("train", "val", "test"), "_labels", "_image_files"),
    "EuroSAT": _Set((), pairs="samples"),
    "FGVCAircraft": _Set(("trainval", "train", "val", "test"), "_labels", "_image_files"),
    "FashionMNIST": _Set(_TRAIN_TEST, "targets"),
    "Flowers102": _Set(("train", "val", "test"), "_labels", "_image_files"),
    "Food101": _Set(_TRAIN_TEST, "_labels", "_image_files"),
    "GTSRB": _Set(_TRAIN_TEST, pairs="_samples"),
    "ImageNet": _Set(("train", "val"), pairs="samples"),
    "Imagenette": _Set(("train", "val"), pairs="_samples"),
    "KMNIST": _Set(_TRAIN_TEST, "targets"),
    "MNIST": _Set(_TRAIN_TEST, "targets"),
    "OxfordIIITPet": _Set(("trainval", "test"), "_labels", "_images"),
    "STL10": _Set(("train", "test", "unlabeled", "train+unlabeled"), "labels"),
    "SVHN": _Set(("train", "test", "extra"), "labels"),
    "StanfordCars": _Set(_TRAIN_TEST, pairs="_samples"),
}
# The others' sources forbid it or are gone.
_FETCHED = _SETS.keys() - {"ImageNet", "StanfordCars"}
_BY_FLAG = ("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST")  # they take train=True or False


def open_torchvision(spec: str, place: str, *, root: PathLike | None = None, download: bool = False) -> Source:
    """Open a data set that torchvision reads.

    Args:
        spec: the SOURCE.
        place: NAME or NAME:SPLIT.
        root: the folder that the data sets lie in; by default as the module says.
        download: fetch it first if it is not there.

    Raises:
        ConfigError: there is no such data set, or it has no such split.
        DataError: it is not there, or damaged.
    """
    name, colon, split = place.partition(":")
    entry = _entry(spec, name, split if colon else None)
    folder = expanded(root or os.environ.get("ADIOS_DATASETS") or cache_home() / "datasets")
    data = _open(spec, name, split or (entry.splits or ("",))[0], folder, download)
    classes = tuple(" / ".join(c) if isinstance(c, tuple) else str(c) for c in getattr(data, "classes", ()))
    if entry.pairs:
        pairs = getattr(data, entry.pairs)
        paths, labels = [str(path) for path, _ in pairs], [label for _, label in pairs]
    elif entry.files:
        paths, labels = [str(path) for path in getattr(data, entry.files)], getattr(data, entry.labels)
    else:
        return Arrays(spec, data, np.asarray(getattr(data, entry.labels), np.int64), classes)
    base = f"{folder}/"
    names = [path.removeprefix(base) for path in paths]
    return Files(spec, Found(base, names), labels=np.asarray(labels, np.int64), classes=classes)


class Arrays(Source):
    """Images that torchvision holds in memory as pixels."""

    def __init__(self, spec: str, data: Any, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
        self.spec, self.classes = spec, classes
        self._data, self._labels = data, labels

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._data)

    def _ref(self, position: int) -> ImageRef:
        id = f"{self.spec}[{position}]"
        return ImageRef(id, partial(self._read, position), None, int(self._labels[position]))

    def _read(self, position: int) -> Image.Image:
        return to_rgb(self._data[position][0])

    def fingerprint(self) -> str:
        """By all labels, and the pixels of up to 1,000 evenly spread images."""
        digest = sha256(self._labels.astype("<i8").tobytes())
        for position in range(0, len(self), max(1, len(self) // _SAMPLES)):
            digest.update(self._read(position).tobytes())
        return digest.hexdigest()


def _entry(spec: str, name: str, split: str | None) -> _Set:
    if name not in _SETS:
        near = get_close_matches(name, _SETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_SETS)}."
        raise ConfigError(f"{spec}: torchvision's {name!r} is not known here; {hint}")
    entry = _SETS[name]
    if split is not None and split not in entry.splits:
        splits = f"write one of {', '.join(entry.splits)}" if entry.splits else "write it without one"
        raise ConfigError(f"{spec}: {name} has no split {split!r}; {splits}.")
    return entry


def _open(spec: str, name: str, split: str, folder: Path, download: bool) -> Any:
    import torchvision

    options: dict[str, Any] = {"split": split} if split else {}
    if name in _BY_FLAG:
        options = {"train": split == "train"}
    if name in _FETCHED:
        options["download"] = download
    try:
        return getattr(torchvision.datasets, name)(folder, **options)
    except ImportError as error:
        raise DataError(f"{spec}: torchvision needs {error.name} to read it; pip install {error.name}.") from error
    except Exception as error:  # each set has its own way to say that its files are not there
        reason = " ".join(str(error).split()) or type(error).__name__
        if download:
            raise DataError(f"{spec}: cannot be fetched to {folder}: {reason}.") from error
        fetch = f"fetch it by `adios data {spec} --download`" if name in _FETCHED else "put it there by hand"
        raise DataError(
            f"{spec}: not found, or not whole, in {folder} ({reason.rstrip('.')}); name the folder that holds it in "
            f"ADIOS_DATASETS, or {fetch}."
        ) from error
