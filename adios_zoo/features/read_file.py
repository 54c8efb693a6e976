"""A feature file read in pieces: any rows of it, or all of it group by group, however large it is.

A group is some thousand rows that are read at once: a row group of parquet, a stretch of lines of csv, a stretch of
the mapped array of npy or safetensors.  Besides one file, a folder or a glob of parquet files (the shards of one
extraction, say) is read as one, in name order.
"""

from __future__ import annotations

import csv
import glob
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.write_file import Features, paths_file
from adios_zoo.images.image import PathLike

_ROWS_A_GROUP = 4096
_MOST_HEADER_BYTES = 1 << 20  # of safetensors


def open_features(path: PathLike, *, cache_bytes: int = 256 << 20) -> FeatureFile:
    """Open what ``adios extract`` wrote: a file (parquet, npy, safetensors, csv), or a folder or glob of .parquet.

    ``cache_bytes`` bounds the groups that :meth:`FeatureFile.take` keeps; the last one read is always kept.

    Raises ConfigError for another suffix, DataError for a file that is missing or not of this form.
    """
    path = Path(path)
    if path.is_dir() or (glob.has_magic(str(path)) and not path.exists()):
        pattern = str(Path(glob.escape(str(path))) / "*.parquet") if path.is_dir() else str(path)
        files = sorted(Path(name) for name in glob.iglob(pattern, recursive=True))  # noqa: PTH207 (takes no absolute pattern)
        if not files or any(file.suffix.lower() != ".parquet" for file in files):
            raise DataError(f"{path}: no .parquet files, or not only such; several files are read only as parquet.")
        return ParquetFeatureFile(path, cache_bytes, files)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"{path}: cannot tell the format; features are read from {', '.join(_KINDS)} files or a folder of .parquet."
        )
    return kind(path, cache_bytes)


def read_features(path: PathLike) -> tuple[list[str], Features]:
    """Read all ids (n) and features (n, D) of what :func:`open_features` opens; its errors are that one's."""
    file = open_features(path)
    return list(file.ids()), np.concatenate(list(file.features()))


class FeatureFile(ABC):
    """Rows of (id, feature) in a file.  Safe in forked and spawned processes: no open file is kept between calls.

    Attributes:
        path: what was opened.
        dim: numbers D of a feature.
        metadata: what the writer kept of the model: ``adios.model``, ...; parquet alone has it.
    """

    def __init__(self, path: Path, cache_bytes: int) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        with self._explained():
            sizes = self._open()
        if not sum(sizes):
            raise DataError(f"{path}: there are no rows in it.")
        self.starts = np.cumsum([0, *sizes])
        self._cached_groups = max(1, cache_bytes // (4 * self.dim * max(sizes)))
        self._group = lru_cache(self._cached_groups)(self._read)

    dim: int

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    @property
    def groups(self) -> list[range]:
        """The rows of each group, in order."""
        return [range(start, stop) for start, stop in pairwise(self.starts.tolist())]

    def features(self) -> Iterator[Features]:
        """Every group's features (rows, D), float32, in order; one group is held at a time."""
        for group in range(len(self.starts) - 1):
            yield self._read(group)

    def ids(self) -> Iterator[str]:
        """Every row's id, in order; one group's are held at a time."""
        for values in self.column("path"):
            yield from values

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Features:
        """Features (n, D), float32, of n rows in any order.  Raises IndexError for a row that is not there."""
        wanted = self._rows(rows)
        out = np.empty((len(wanted), self.dim), np.float32)
        groups = np.searchsorted(self.starts, wanted, side="right") - 1
        for group in np.unique(groups):
            here = groups == group
            out[here] = self._group(int(group))[wanted[here] - self.starts[group]]
        return out

    def take_ids(self, rows: Sequence[int] | NDArray[Any]) -> list[str]:
        """Ids of rows in any order, in one pass over the ids.  Raises IndexError for a row that is not there."""
        wanted = self._rows(rows).tolist()
        found = dict.fromkeys(wanted, "")
        for row, id in enumerate(self.ids()):
            if row in found:
                found[row] = id
        return [found[row] for row in wanted]

    def rows_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The row of each id that is in the file, the first one of several, in one pass over the ids."""
        wanted = set(ids)
        found: dict[str, int] = {}
        for row, id in enumerate(self.ids()) if wanted else ():
            if id in wanted and id not in found:
                found[id] = row
        return found

    def column(self, name: str) -> Iterator[list[Any]]:
        """Values of a column, group by group: ``path``, or another one of a parquet file.

        Raises DataError where the file has none of that name.
        """
        if name != "path":
            raise DataError(f"{self.path}: it has no column {name!r}; only parquet files have columns of their own.")
        for group in range(len(self.starts) - 1):
            with self._explained():
                ids = self._read_ids(group)
            yield ids

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: everything but the cached groups."""
        return {name: value for name, value in self.__dict__.items() if name != "_group"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with an empty cache."""
        self.__dict__.update(state)
        self._group = lru_cache(self._cached_groups)(self._read)

    def _rows(self, rows: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        wanted = np.asarray(rows, np.int64).reshape(-1)
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"{self.path} has {len(self)} rows.")
        return wanted

    def _read(self, group: int) -> Features:
        with self._explained():
            features = self._read_features(group)
            size = int(self.starts[group + 1] - self.starts[group])
            if features.shape != (size, self.dim):
                raise ValueError(f"features of shape {features.shape} where {(size, self.dim)} are expected")
            return features

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Within, whatever shows that this is no feature file is raised as one sentence that says so."""
        try:
            yield
        except FileNotFoundError as error:
            name = error.filename or self.path
            raise DataError(f"{name}: no such file; write it with 'adios extract'.") from error
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            TypeError,
            StopIteration,
        ) as error:  # pyarrow's errors are among these
            detail = " ".join(str(error).split())
            raise DataError(f"{self.path}: not a feature file of 'adios extract' ({detail}).") from error

    @abstractmethod
    def _open(self) -> list[int]:
        """Set ``dim`` and ``metadata``; return the number of rows of each group."""

    @abstractmethod
    def _read_features(self, group: int) -> Features: ...

    @abstractmethod
    def _read_ids(self, group: int) -> list[str]: ...


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
        from adios_zoo.sources.parquet import column_facts

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


_KINDS: dict[str, type[FeatureFile]] = {
    ".parquet": ParquetFeatureFile,
    ".npy": NpyFeatureFile,
    ".safetensors": SafetensorsFeatureFile,
    ".csv": CsvFeatureFile,
}


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
