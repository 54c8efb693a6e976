"""Indexes of large data sets: names in little memory, and a cache on the disk.

The cache is the folder ``sources`` in :func:`adios_zoo.environment.cache_home`.  Its files hold plain arrays, no
pickles; one that cannot be read is made anew, and where none can be written there is none.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from adios_zoo.environment import cache_home
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.files import replacing

Arrays: TypeAlias = "dict[str, NDArray[Any]]"

_VERSION = "2"


class Names(Sequence[str]):
    """Text by number, as one block of bytes: ten million file names take what they are long, and pickle fast."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Pack names, which may hold undecodable bytes as the system's file names do."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        """How many names there are."""
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        """Give all names."""
        text, start = self.text.tobytes(), 0
        for end in self.ends.tolist():
            yield text[start:end].decode("utf-8", "surrogateescape")
            start = end

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one name, or some."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start = self.ends[position - 1] if position else 0
        return self.text[start : self.ends[position]].tobytes().decode("utf-8", "surrogateescape")


def load_index(key: str) -> Arrays | None:
    """Return what :func:`save_index` kept under ``key``; None where there is nothing, or nothing readable."""
    try:
        with np.load(_file(key), allow_pickle=False) as index:
            return dict(index)
    except (ConfigError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def save_index(key: str, arrays: Arrays) -> None:
    """Keep arrays under ``key`` if the cache can be written to."""
    content: dict[str, Any] = dict(arrays)  # numpy's stubs take the arrays for options
    with suppress(ConfigError, DataError), replacing(_file(key)) as file:
        np.savez(file, **content)


def _file(key: str) -> Path:
    digest = sha256(f"{_VERSION}/{key}".encode("utf-8", "surrogateescape")).hexdigest()
    return cache_home() / "sources" / f"{digest}.npz"
