"""A feature file read in pieces: any rows of it, or all of it group by group, however large it is.

A group is some thousand rows that are read at once.  What each format makes of that is in ``feature_formats.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import DataError
from adios_zoo.features.write_file import Features


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
