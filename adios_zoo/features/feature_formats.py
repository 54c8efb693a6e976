"""The formats of feature files as they are read: parquet, npy, safetensors, csv.

A group is a row group of parquet, a stretch of lines of csv, a stretch of the mapped array of npy or safetensors.
"""

from __future__ import annotations

import csv
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import DataError
from adios_zoo.features.feature_file import FeatureFile
from adios_zoo.features.write_file import Features, paths_file

_ROWS_A_GROUP = 4096
_MOST_HEADER_BYTES = 1 << 20  # of safetensors


class ParquetFeatureFile(FeatureFile):
    """One parquet file or several; footers are read once."""

    def __init__(self, path: Path, cache_bytes: int, files: Sequence[Path] = ()) -> None:
        self._files = list(files) or [path]
        super().__init__(path, cache_bytes)

    def _open(self) -> list[int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._footers = [pq.read_metadata(file) for file in self._files]
        self._where: list[tuple[int, int]] = []
        sizes = []
        dims = set()
        for i, (file, footer) in enumerate(zip(self._files, self._footers, strict=True)):
            schema = footer.schema.to_arrow_schema()
            feature = schema.field("feature").type
            schema.field("path")
            if not pa.types.is_fixed_size_list(feature):
                raise ValueError(f"{file.name}: its column 'feature' is not a fixed-size list")
            dims.add(feature.list_size)
            metadata = {
                key.decode(): value.decode()
                for key, value in (schema.metadata or {}).items()
                if key.startswith(b"adios.")
            }
            if i and metadata != self.metadata:
                raise ValueError(
                    f"{file.name} and {self._files[0].name} were made by different models, or in different precisions"
                )
            self.metadata = metadata
            for group in range(footer.num_row_groups):
                self._where.append((i, group))
                sizes.append(footer.row_group(group).num_rows)
        if len(dims) != 1:
            raise ValueError(f"features of {sorted(dims)} numbers in one set of files")
        (self.dim,) = dims
        return sizes

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the column ``label``; empty where it has none.  Raises DataError where files differ in them."""
        from adios_zoo.sources.columns import column_facts

        facts = [column_facts(footer.schema.to_arrow_schema()).get("label", {}) for footer in self._footers]
        named = {tuple(map(str, fact.get("names", ()))) for fact in facts}
        if len(named) > 1:
            raise DataError(f"{self.path}: its files name other classes, so their labels do not match.")
        return named.pop()

    def column(self, name: str) -> Iterator[list[Any]]:
        """Values of a column, group by group."""
        for footer in self._footers:
            schema = footer.schema.to_arrow_schema()
            if name not in schema.names:
                raise DataError(f"{self.path}: it has no column {name!r}; its columns are {', '.join(schema.names)}.")
        for group in range(len(self._where)):
            with self._explained():
                values = self._read_column(group, name).to_pylist()
            yield values

    def _read_features(self, group: int) -> Features:
        values = self._read_column(group, "feature").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(values, np.float32).reshape(-1, self.dim)

    def _read_ids(self, group: int) -> list[str]:
        return list(self._read_column(group, "path").to_pylist())

    def _read_column(self, group: int, name: str) -> Any:
        import pyarrow.parquet as pq

        file, inner = self._where[group]
        with pq.ParquetFile(self._files[file], metadata=self._footers[file]) as parquet:
            return parquet.read_row_group(inner, columns=[name], use_threads=False).column(name)


class ArrayFeatureFile(FeatureFile):
    """The array stays on the disk and is mapped; its ids are in the text file beside it."""

    def _open(self) -> list[int]:
        array = self._array()
        if array.ndim != 2:
            raise ValueError(f"an array of shape {array.shape}")
        self.dim = array.shape[1]
        lines, self._offsets = _line_offsets(paths_file(self.path))
        if lines != len(array):
            raise DataError(f"{self.path}: {lines} paths do not match features of shape {array.shape}.")
        return _sizes(len(array))

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Features:
        """Features (n, D), float32, of n rows in any order: only these are read."""
        return np.array(self._array()[self._rows(rows)], np.float32)

    def _read_features(self, group: int) -> Features:
        return np.array(self._array()[self.starts[group] : self.starts[group + 1]], np.float32)

    def _read_ids(self, group: int) -> list[str]:
        return _lines(paths_file(self.path), self._offsets, group)

    @abstractmethod
    def _array(self) -> NDArray[Any]:
        """Map the features (n, D)."""


class NpyFeatureFile(ArrayFeatureFile):
    """NumPy's format."""

    def _array(self) -> NDArray[Any]:
        return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))


class SafetensorsFeatureFile(ArrayFeatureFile):
    """The tensor ``features``, float32."""

    def _array(self) -> NDArray[Any]:
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MOST_HEADER_BYTES:
                raise ValueError("its first bytes are no header of safetensors")
            facts = json.loads(file.read(length))["features"]
        if facts["dtype"] != "F32":
            raise ValueError(f"features of type {facts['dtype']}")
        shape = tuple(facts["shape"])
        return np.memmap(self.path, "<f4", mode="r", offset=8 + length + facts["data_offsets"][0], shape=shape)


class CsvFeatureFile(FeatureFile):
    """Lines are parsed when they are asked for; where each group starts is found once."""

    def _open(self) -> list[int]:
        with self.path.open("rb") as file:
            head = file.readline()
        columns = next(csv.reader([head.decode()]))
        if columns[:2] != ["path", "f0"]:
            raise ValueError("the first line is not path,f0,f1,...")
        self.dim = len(columns) - 1
        rows, self._offsets = _line_offsets(self.path, start=len(head))
        return _sizes(rows)

    def _read_features(self, group: int) -> Features:
        return np.array([row[1:] for row in self._read_rows(group)], np.float32)

    def _read_ids(self, group: int) -> list[str]:
        return [row[0] for row in self._read_rows(group)]

    def _read_rows(self, group: int) -> list[list[str]]:
        return list(csv.reader(_lines(self.path, self._offsets, group)))


def _sizes(rows: int) -> list[int]:
    return [min(_ROWS_A_GROUP, rows - start) for start in range(0, rows, _ROWS_A_GROUP)]


def _line_offsets(path: Path, start: int = 0) -> tuple[int, list[int]]:
    """Count the lines from byte ``start``, and find the byte where every group of lines starts."""
    offsets = []
    lines, at = 0, start
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if lines % _ROWS_A_GROUP == 0:
                offsets.append(at)
            lines += 1
            at += len(line)
    return lines, [*offsets, at]


def _lines(path: Path, offsets: Sequence[int], group: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(offsets[group])
        return file.read(offsets[group + 1] - offsets[group]).decode().removesuffix("\n").split("\n")
