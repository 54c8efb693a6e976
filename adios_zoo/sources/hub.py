"""Data sets of the Hugging Face Hub, by the ``datasets`` library.

``hf:NAME[:CONFIG][@REVISION][#SPLIT]``; NAME is ``org/dataset`` or a folder, SPLIT is ``train`` if it is not given and
may have a range (``#train[:10%]``).  ``hf:`` fetches the split once and reaches every image by its number;
``hf-stream:`` reads in passing and keeps nothing.  A folder of ``save_to_disk`` is read where it lies.  The images are
the first column of images, the labels the first column of class labels, else a column ``label`` of whole numbers or
of names, unless the SOURCE names other columns, see columns.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.environment import offline
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageRef, encoded_ref, fetched_ref
from adios_zoo.sources.columns import Asked, content, image_column, is_text, label_column, lies_elsewhere, tell_ignored
from adios_zoo.sources.labels import are_names, label_numbers, numbered
from adios_zoo.sources.source import Source, Stream

_SAVED = ("state.json", "dataset_dict.json")  # of save_to_disk
_FORM = re.compile(r"(?P<name>[^:@#]+)(:(?P<config>[^@#]+))?(@(?P<revision>[^#]+))?(#(?P<split>.+))?")


class HubDataset(Source):
    """A split that lies in the cache of the ``datasets`` library."""

    def __init__(self, spec: str, place: str, asked: Asked) -> None:
        self.spec, self._asked = spec, asked
        data = _load(spec, place, streaming=False)
        self._image, self._label, self.classes = _columns(spec, data.features, asked)
        columns = [self._image, *([self._label] if self._label else [])]
        self._data = _undecoded(data.select_columns(columns), self._image)
        self._labels: NDArray[np.int64] | None = None
        if not len(self):
            raise DataError(f"{spec}: no images; the split is empty.")
        if self._label and is_text(data.features.arrow_schema.field(self._label).type):
            self._labels = self._all_labels()

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._data)

    def _ref(self, position: int) -> ImageRef:
        if self._labels is None:
            self._labels = self._all_labels()
        return fetched_ref(f"{self.spec}[{position}]", partial(self._fetch, position), int(self._labels[position]))

    def fingerprint(self) -> str:
        """By the library's own fingerprint, which follows from the data's files and commit."""
        return sha256(f"{self._data._fingerprint} {self._image} {self._label}".encode()).hexdigest()

    def _fetch(self, position: int) -> bytes | None:
        return content(self._data[position][self._image])

    def _all_labels(self) -> NDArray[np.int64]:
        if self._label is None:
            return np.full(len(self), -1)
        column = self._data.with_format("arrow", columns=[self._label])[:][self._label]
        if are_names([column]):
            (numbers,), self.classes = numbered([column])
            return numbers
        try:
            return label_numbers(column, f"{self.spec}: its column {self._label!r}")
        except DataError:
            if self._asked.label:
                raise
            tell_ignored(self.spec, self._label, f"holds {column.type} values that are no whole numbers")
            return np.full(len(self), -1)


class HubStream(Stream):
    """A split read in passing."""

    def __init__(self, spec: str, place: str, asked: Asked) -> None:
        self.spec = spec
        data = _load(spec, place, streaming=True)
        features = data.features or data._resolve_features().features
        self._image, self._label, self.classes = _columns(spec, features, asked)
        if self._label and "int" not in (kind := features[self._label].dtype) and kind != "bool":
            # The numbers of names follow from all of them, and these have not been seen.
            tell_ignored(spec, self._label, f"holds {kind} values, which a stream cannot number,")
            self._label = None
        self._data = _undecoded(data, self._image)

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from ``start`` to ``stop``; those before ``start`` are read and passed over.

        Raises DataError when the stream breaks off.
        """
        data = self._data.skip(start) if start else self._data
        if stop is not None:
            data = data.take(max(stop - start, 0))
        rows = iter(data)
        number = start
        while (row := _loaded(self.spec, partial(next, rows, None))) is not None:
            label = row[self._label] if self._label else None
            cell, id = row[self._image], f"{self.spec}[{number}]"
            number += 1
            if lies_elsewhere(cell):
                yield fetched_ref(id, partial(content, cell), -1 if label is None else int(label))
            else:
                yield encoded_ref(id, content(cell), -1 if label is None else int(label))

    def fingerprint(self) -> str:
        """By the SOURCE and what the library knows of the split; name a @REVISION to have it fixed."""
        info = self._data.info
        return sha256(f"{self.spec} {info.dataset_name} {info.version} {info.download_checksums}".encode()).hexdigest()


def _load(spec: str, place: str, *, streaming: bool) -> Any:
    form = _FORM.fullmatch(place)
    if form is None:
        raise ConfigError(f"{spec} is no data set of the Hub; write hf:org/dataset[:config][@revision][#split].")
    if offline() == "ADIOS_OFFLINE" and not Path(form["name"]).exists():
        raise DataError(
            f"{spec}: the network is forbidden by ADIOS_OFFLINE; with HF_HUB_OFFLINE=1 instead the datasets library "
            "takes what it has in its cache."
        )
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{spec}: the datasets library is missing; pip install datasets.") from error
    if (folder := Path(form["name"])).is_dir() and any((folder / name).is_file() for name in _SAVED):
        return _loaded(spec, partial(_saved, datasets, str(folder), form["split"], streaming=streaming))
    load = partial(datasets.load_dataset, form["name"], form["config"], revision=form["revision"])
    return _loaded(spec, partial(load, split=form["split"] or "train", streaming=streaming))


def _loaded(spec: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # the library raises whatever its readers do
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{spec}: cannot be loaded: {reason.rstrip('.')}.") from error


def _saved(datasets: Any, folder: str, split: str | None, *, streaming: bool) -> Any:
    """What ``save_to_disk`` wrote: one data set, or several splits."""
    found = datasets.load_from_disk(folder)
    if not isinstance(found, datasets.DatasetDict):
        found = {str(found.split or "train"): found}
        split = split or next(iter(found))
    # The library's own reading of a split, as load_dataset has it: a name, ranges, a sum.
    asked = datasets.ReadInstruction.from_spec(split or "train")
    parts = asked.to_absolute({name: len(data) for name, data in found.items()})
    chosen = [found[part.splitname] for part in parts]
    for number, part in enumerate(parts):
        if part.from_ or part.to < len(chosen[number]):
            chosen[number] = chosen[number].select(range(part.from_, part.to))
    data = chosen[0] if len(chosen) == 1 else datasets.concatenate_datasets(chosen)
    return data.to_iterable_dataset() if streaming else data


def _columns(spec: str, features: Any, asked: Asked) -> tuple[str, str | None, tuple[str, ...]]:
    import datasets

    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    schema = features.arrow_schema
    image = images[0] if images and not asked.image else image_column(spec, schema, asked.image)
    classes = {name: tuple(f.names) for name, f in features.items() if isinstance(f, datasets.ClassLabel)}
    label = next(iter(classes)) if classes and not asked.label else label_column(spec, schema, asked.label)
    return image, label, classes.get(label or "", ())


def _undecoded(data: Any, image: str) -> Any:
    import datasets

    return data.cast_column(image, datasets.Image(decode=False))
