"""Feature files: rows of (path, feature) written batch by batch as parquet, npy, safetensors or csv.

:mod:`adios_zoo.features.read_file` reads them.

================  ==========================================================================================
``.parquet``      columns ``path`` (string), ``feature`` (fixed-size list of float32) and, of labelled images, ``label``
                  (int64, -1 where unknown; class names as on the Hugging Face Hub); metadata in the schema
``.npy``          one float32 array (n, D); the paths, one a line, in ``<name>.npy.paths.txt``
``.safetensors``  the same as the tensor ``features``; the paths in ``<name>.safetensors.paths.txt``
``.csv``          columns ``path``, ``f0`` ... ``f<D-1>``; nine digits, which give back the same float32
================  ==========================================================================================

A file appears under its name only when it is complete: rows go to a hidden temporary file in the same folder,
which is renamed at the end and removed if anything fails.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.files import explained, replacing

Features: TypeAlias = "NDArray[np.float32]"

_ROWS_A_GROUP = 4096  # of parquet: large enough to scan fast, 8 MiB of features at D = 512
_HEADER_BYTES = 128  # of arrays: fixed, so that the number of rows can be filled in at the end


@contextmanager
def open_writer(
    path: Path, metadata: Mapping[str, str] | None = None, *, classes: Sequence[str] | None = None
) -> Iterator[FeatureWriter]:
    """Give the writer that the suffix of ``path`` asks for; the file appears when the block ends well.

    ``metadata`` (say, the model's name) and labels are kept by parquet alone.  ``classes`` names the labels, if there
    are names; ``None`` for rows without labels.  Raises ConfigError for another suffix,
    DataError when the file cannot be written or no row was.
    """
    check_suffix(path)
    with ExitStack() as stack:
        writer = _WRITERS[path.suffix.lower()](path, metadata or {}, stack, classes)
        yield writer
        writer.finish()


def check_suffix(path: Path) -> None:
    """Raise ConfigError for a name whose suffix :func:`open_writer` does not know."""
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(f"{path}: cannot tell the format; name the output {_SUFFIXES}.")


class FeatureWriter(ABC):
    """Takes batches of rows; the first one sets the dimension D."""

    def __init__(
        self, path: Path, metadata: Mapping[str, str], stack: ExitStack, classes: Sequence[str] | None
    ) -> None:
        """Open the file on ``stack``, which later completes or removes it."""
        self.path = path
        self.rows = 0
        self.dim = 0
        self._metadata = metadata
        self._classes = classes
        self._stack = stack
        self._file = stack.enter_context(replacing(path))

    def write(self, ids: Sequence[str], features: NDArray[Any], labels: Sequence[int] = ()) -> None:
        """Append rows: ``features`` is (len(ids), D), ``labels`` has as many, of a writer that was told of classes.

        Raises DataError for another shape or a full disk.
        """
        rows = np.ascontiguousarray(features, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(ids) or (self.rows and rows.shape[1] != self.dim):
            raise DataError(f"{self.path}: {len(ids)} rows of {self.dim or 'D'} expected, got {rows.shape}.")
        if not ids:
            return
        with explained(self.path):
            if not self.rows:
                self.dim = rows.shape[1]
                self._start()
            self._append(ids, rows, labels)
        self.rows += len(ids)

    def finish(self) -> None:
        """Write what is still held back.  Raises DataError when no row was written, or for a full disk."""
        if not self.rows:
            raise DataError(f"{self.path}: there are no features to write.")
        with explained(self.path):
            self._complete()

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _append(self, ids: Sequence[str], rows: Features, labels: Sequence[int]) -> None: ...

    @abstractmethod
    def _complete(self) -> None: ...


class ParquetFeatures(FeatureWriter):
    """Row groups of several batches, since one of 32 rows each would be slow to read."""

    def _start(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = [("path", pa.string()), ("feature", pa.list_(pa.float32(), self.dim))]
        metadata = dict(self._metadata)
        if self._classes is not None:
            columns.append(("label", pa.int64()))
            facts = {"label": {"names": list(self._classes), "_type": "ClassLabel"}} if self._classes else {}
            metadata["huggingface"] = json.dumps({"info": {"features": facts}})
        self._schema = pa.schema(columns, metadata=metadata)
        self._parquet = pq.ParquetWriter(self._file, self._schema, use_dictionary=False)
        self._held: list[Any] = []
        self._stack.callback(self._abandon)

    def _append(self, ids: Sequence[str], rows: Features, labels: Sequence[int]) -> None:
        import pyarrow as pa

        # From buffers: pa.array() would import pandas, where that is installed, for most of a second.
        texts = [id.encode() for id in ids]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        path = pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))
        values = pa.Array.from_buffers(pa.float32(), rows.size, [None, pa.py_buffer(rows)])
        feature = pa.FixedSizeListArray.from_arrays(values, self.dim)
        columns = [path, feature]
        if self._classes is not None:
            numbers = np.asarray(labels, np.int64)
            columns.append(pa.Array.from_buffers(pa.int64(), len(ids), [None, pa.py_buffer(numbers)]))
        self._held.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        if sum(len(batch) for batch in self._held) >= _ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        held, self._held = self._held, []
        if held:
            self._parquet.write_table(pa.Table.from_batches(held).combine_chunks())

    def _complete(self) -> None:
        self._flush()
        self._parquet.close()

    def _abandon(self) -> None:
        # Left open after an error, it would write its footer when collected, into a file closed by then.
        with suppress(OSError, ValueError):
            self._parquet.close()


class ArrayFeatures(FeatureWriter):
    """An array whose header is written last, over a placeholder, because failures may shrink it."""

    def _start(self) -> None:
        self._paths = self._stack.enter_context(replacing(paths_file(self.path)))
        self._file.write(bytes(_HEADER_BYTES))

    def _append(self, ids: Sequence[str], rows: Features, labels: Sequence[int]) -> None:
        self._file.write(rows.astype("<f4", copy=False).tobytes())
        self._paths.write("".join(f"{id}\n" for id in ids).encode())

    def _complete(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())

    @abstractmethod
    def _header(self) -> bytes: ...


class NpyFeatures(ArrayFeatures):
    """NumPy's format, version 1."""

    def _header(self) -> bytes:
        shape = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self.rows}, {self.dim}), }}"
        start = np.lib.format.magic(1, 0) + (_HEADER_BYTES - 10).to_bytes(2, "little")
        return start + shape.ljust(_HEADER_BYTES - 11).encode() + b"\n"


class SafetensorsFeatures(ArrayFeatures):
    """One tensor; spaces fill its header."""

    def _header(self) -> bytes:
        size = 4 * self.rows * self.dim
        facts = {"features": {"dtype": "F32", "shape": [self.rows, self.dim], "data_offsets": [0, size]}}
        length = _HEADER_BYTES - 8
        return length.to_bytes(8, "little") + json.dumps(facts, separators=(",", ":")).ljust(length).encode()


class CsvFeatures(FeatureWriter):
    """One text line an image."""

    def _start(self) -> None:
        self._file.write(csv_lines([["path", *(f"f{i}" for i in range(self.dim))]]))

    def _append(self, ids: Sequence[str], rows: Features, labels: Sequence[int]) -> None:
        lines = ([id, *(f"{value:.9g}" for value in row.tolist())] for id, row in zip(ids, rows, strict=True))
        self._file.write(csv_lines(lines))

    def _complete(self) -> None:
        pass


def paths_file(path: Path) -> Path:
    """Return where the paths of the array file ``path`` are kept."""
    return path.with_name(f"{path.name}.paths.txt")


def csv_lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Write ``rows`` as UTF-8 CSV, quoted where a comma, a quote or a line break asks for it."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


_WRITERS: dict[str, type[FeatureWriter]] = {
    ".parquet": ParquetFeatures,
    ".npy": NpyFeatures,
    ".safetensors": SafetensorsFeatures,
    ".csv": CsvFeatures,
}
_SUFFIXES = "*.parquet, *.npy, *.safetensors or *.csv"
