"""Parquet files in the layout of the Hugging Face Hub.

A column holds the images, as a struct with ``bytes`` (JPEG, PNG, ...) or the ``path`` of a file, or as plain bytes; a
column of whole numbers or of names the labels, if there are any; columns.py says how they are found.  The schema's
``huggingface`` metadata, if it is there, names the classes of numbers.  A column ``mask``, in the form of the images',
holds maps of their objects; a column ``objects``, in the form of data sets for object detection, their boxes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError, ImageRef, encoded_ref, fetch_mask, fetched_ref, path_id
from adios_zoo.per_process import PerProcess
from adios_zoo.sources.columns import (
    MASK,
    Asked,
    column_facts,
    content,
    image_column,
    is_encoded,
    label_column,
    lies_elsewhere,
    tell_ignored,
)
from adios_zoo.sources.labels import are_names, is_plain, label_numbers, numbered
from adios_zoo.sources.places import expand, open_file
from adios_zoo.sources.source import Source

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH = 256
_BUFFER = 1 << 20
_KEPT_BYTES = 256 << 20
_OBJECTS = "objects"


class _Table(NamedTuple):
    """One file: its columns, and the number of rows up to the end of each row group."""

    place: str
    image: str
    label: str | None
    label_is_plain: bool
    classes: tuple[str, ...]
    ends: list[int]
    has_masks: bool
    has_boxes: bool

    @property
    def rows(self) -> int:
        return self.ends[-1] if self.ends else 0

    def first(self, group: int) -> int:
        """The first row of a row group."""
        return self.ends[group - 1] if group else 0


class Parquet(Source):
    """Rows of parquet files, in name order of the files.

    Images are read by row group; each process keeps the last ones used, up to 256 MB or a single one.
    """

    def __init__(self, spec: str, pattern: str, asked: Asked) -> None:
        self.spec, self._asked = spec, asked
        self._tables = [_describe(place, asked) for place in expand(pattern, ".parquet")]
        self.classes = self._tables[0].classes
        for table in self._tables:
            if table.classes != self.classes:
                raise DataError(f"{table.place} names other classes than {self._tables[0].place}; read them apart.")
        self._ends = list(accumulate(table.rows for table in self._tables))
        if not self._ends[-1]:
            raise DataError(f"{spec}: no images; the files have no rows.")
        self._groups = PerProcess(_Groups)
        self._labels: NDArray[np.int64] | None = None
        if not all(table.label_is_plain for table in self._tables):
            self._labels = self._looked_at()

    def __len__(self) -> int:
        """How many rows there are."""
        return self._ends[-1]

    def _ref(self, position: int) -> ImageRef:
        table, row = self._locate(position)
        fetch = partial(self._cell, position, table.image)
        return self._annotated(table, position, fetched_ref(_id(table, row), fetch, int(self._all_labels()[position])))

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the rows from ``start`` to ``stop``; each reference holds its encoded image.

        A file is read once from front to back, some hundred rows at a time; its masks by row group.

        Raises DataError when a file is damaged.
        """
        end = len(self) if stop is None else min(stop, len(self))
        for table, last in zip(self._tables, self._ends, strict=True):
            first = last - table.rows
            if start < last and first < end:
                labels = None if self._labels is None else self._labels[first:last]
                rows = _rows(table, max(start - first, 0), min(end, last) - first, labels)
                for position, ref in enumerate(rows, max(start, first)):
                    yield self._annotated(table, position, ref)

    def fingerprint(self) -> str:
        """By the footers of the files: number, sizes, places and value ranges of the rows; not by file names.

        By the columns too, where the SOURCE names them.
        """
        facts = [sha256(_footer(table.place)).hexdigest() for table in self._tables]
        facts += [f"{name}={column}" for name, column in self._asked._asdict().items() if column]
        return sha256("\n".join(facts).encode()).hexdigest()

    def _locate(self, position: int) -> tuple[_Table, int]:
        number = bisect_right(self._ends, position)
        table = self._tables[number]
        return table, position - self._ends[number] + table.rows

    def _cell(self, position: int, column: str) -> Any:
        """The encoded content of an image or a mask, or the annotations of objects."""
        table, row = self._locate(position)
        group = bisect_right(table.ends, row)
        cell = self._groups().get(table.place, group, column)[row - table.first(group)].as_py()
        return cell if column == _OBJECTS else content(cell, _folder(table.place))

    def _annotated(self, table: _Table, position: int, ref: ImageRef) -> ImageRef:
        if table.has_masks:
            ref = replace(ref, mask=partial(fetch_mask, ref.id, partial(self._cell, position, MASK)))
        if table.has_boxes:
            ref = replace(ref, boxes=partial(_boxes, ref.id, partial(self._cell, position, _OBJECTS)))
        return ref

    def _all_labels(self) -> NDArray[np.int64]:
        if self._labels is None:
            self._labels = np.concatenate(
                [np.full(t.rows, -1) if t.label is None else _numbers(t, _label_cells(t)) for t in self._tables]
            )
        return self._labels

    def _looked_at(self) -> NDArray[np.int64]:
        """Labels of a type that must be looked at to know whether they are labels; sets the classes of names."""
        import pyarrow as pa

        columns = [pa.nulls(t.rows) if t.label is None else _label_cells(t) for t in self._tables]
        if are_names(columns):
            numbers, self.classes = numbered(columns)
            return np.concatenate(numbers)
        found = []
        for table, column in zip(self._tables, columns, strict=True):
            try:
                found.append(_numbers(table, column))
            except DataError:
                if self._asked.label:
                    raise
                tell_ignored(table.place, str(table.label), f"holds {column.type} values that are no whole numbers")
                return np.full(len(self), -1)  # of all: a label is one column
        return np.concatenate(found)


class _Groups:
    """The columns of images, masks and objects of the row groups that were used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, str], pa.ChunkedArray] = OrderedDict()
        self._bytes = 0
        self._metadata = lru_cache(maxsize=64)(_metadata)

    def get(self, place: str, group: int, column: str) -> pa.ChunkedArray:
        key = place, group, column
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            with _open(place, self._metadata(place)) as file:
                read = file.read_row_group(group, columns=[column], use_threads=False)
            cells = read[column]
            self._kept[key] = cells
            self._bytes += cells.nbytes
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return cells


def _id(table: _Table, row: int) -> str:
    return path_id(f"{table.place}[{row}]")


def _folder(place: str) -> str:
    """The folder of a file, to which the paths in it are relative, with its slash."""
    return place[: place.rfind("/") + 1]


def _rows(table: _Table, start: int, stop: int, labels: NDArray[np.int64] | None) -> Iterator[ImageRef]:
    """Refer to rows of one file, read in passing; its labels too, unless they are given."""
    group = bisect_right(table.ends, start)
    row = table.first(group)
    label = table.label if labels is None else None
    columns = [table.image, *([label] if label else [])]
    folder = _folder(table.place)
    with _readable(table.place), _open(table.place, buffer_size=_BUFFER) as file:
        groups = range(group, len(table.ends))
        for batch in file.iter_batches(_BATCH, row_groups=groups, columns=columns, use_threads=False):
            skipped = min(max(start - row, 0), batch.num_rows)
            images = batch.column(table.image)
            if labels is not None:
                numbers = labels[row : row + batch.num_rows]
            else:
                numbers = _numbers(table, batch.column(label)) if label else np.full(batch.num_rows, -1)
            for offset in range(skipped, min(batch.num_rows, stop - row)):
                id, cell = _id(table, row + offset), images[offset].as_py()
                if lies_elsewhere(cell):
                    yield fetched_ref(id, partial(content, cell, folder), int(numbers[offset]))
                else:
                    yield encoded_ref(id, content(cell), int(numbers[offset]))
            row += batch.num_rows
            if row >= stop:
                return


def _describe(place: str, asked: Asked) -> _Table:
    with _readable(place), _open(place) as file:
        metadata, schema = file.metadata, file.schema_arrow
    image, label = image_column(place, schema, asked.image), label_column(place, schema, asked.label)
    plain = label is None or is_plain(schema.field(label).type)
    names = column_facts(schema).get(label, {}).get("names", []) if label else []
    rows = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    has_masks = MASK in schema.names and is_encoded(schema.field(MASK).type)
    has_boxes = _OBJECTS in schema.names
    return _Table(place, image, label, plain, tuple(map(str, names)), list(accumulate(rows)), has_masks, has_boxes)


def _boxes(id: str, fetch: Callable[[], Any]) -> list[list[float]]:
    """Boxes of a cell of objects: one record of lists, ``bbox`` among them, or a list of records."""
    cell = fetch()
    try:
        boxes = cell["bbox"] if isinstance(cell, dict) else [one["bbox"] for one in cell or ()]
        return [[left, top, width, height] for left, top, width, height in boxes]
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(id, "its objects have no bbox of four numbers each") from error


def _label_cells(table: _Table) -> pa.ChunkedArray:
    with _readable(table.place), _open(table.place) as file:
        return file.read(columns=[table.label], use_threads=False)[table.label]


def _numbers(table: _Table, labels: Any) -> NDArray[np.int64]:
    return label_numbers(labels, f"{table.place}: its column {table.label!r}")


@contextmanager
def _open(place: str, metadata: pq.FileMetaData | None = None, buffer_size: int = 0) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    with open_file(place) as file, pq.ParquetFile(file, metadata=metadata, buffer_size=buffer_size) as parquet:
        yield parquet


def _metadata(place: str) -> pq.FileMetaData:
    with _open(place) as file:
        return file.metadata


def _footer(place: str) -> bytes:
    with _readable(place), open_file(place) as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, 2)
        return file.read(length)


@contextmanager
def _readable(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise DataError(f"{place} is not a readable parquet file: {error}.") from error
