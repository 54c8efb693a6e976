"""Rows of an unfinished run, kept beside the output so that a run that was killed can go on where it was.

``features.parquet.unfinished`` is one file that only grows: what the run depends on, then frame by frame the rows
and the failures of so many images more, each on the disk before the next.  A frame that was not written whole ends
the file for whoever reads it; a last frame that is not what was written, too.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.write_file import Features
from adios_zoo.files import explained

# What is lost at most when a run is killed: so many rows, or the rows of so many seconds and one batch.
_ROWS_A_FRAME = 4096
_SECONDS_A_FRAME = 2.0

_HEAD = struct.Struct("<4sIIIII")  # mark, rows, failures, D, bytes of text, checksum of what follows
_MARK = b"ADf1"


def unfinished_file(output: Path) -> Path:
    """Where the rows of a run lie until ``output`` is complete."""
    return output.with_name(f"{output.name}.unfinished")


class Failure(NamedTuple):
    """An image that could not be read, and the sentence that says why."""

    id: str
    reason: str


class Journal:
    """The rows of one run, in order: those of an earlier process, and those added here.

    ``depends`` is what the rows depend on, by name; a run goes on only with the same.  A run that is short has no
    file: rows are held back for a few seconds.

    Raises:
        ConfigError: there is an unfinished run and ``resume`` was not asked for, or it was one of other settings.
        DataError: the file cannot be read or written, or another process writes it.
    """

    def __init__(self, output: Path, depends: Mapping[str, str], *, resume: bool = False) -> None:
        self.path = unfinished_file(output)
        self.rows = self.failed = 0
        self._depends = dict(depends)
        self._file: IO[bytes] | None = None
        self._held: list[tuple[Sequence[str], Features]] = []
        self._failures: list[Failure] = []
        self._last = time.monotonic()
        if self.path.exists():
            if not resume:
                raise ConfigError(
                    f"{self.path} holds an unfinished run; add --resume to go on with it, or --force to begin anew."
                )
            self._reopen()

    def __enter__(self) -> Journal:
        """Go on."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        """Keep what an error would lose, and let go of the file."""
        if kind is not None:
            with suppress(DataError):
                self.flush()
        self._close()

    @property
    def position(self) -> int:
        """How many images are done: those with rows and those that failed."""
        return self.rows + self.failed

    def add(self, ids: Sequence[str], features: Features | None, failures: Sequence[Failure]) -> None:
        """Take the rows (n, D) and the failures of the images that come next."""
        if features is not None and ids:
            self._held.append((ids, features))
        self._failures += failures
        self.rows += len(ids)
        self.failed += len(failures)
        held = len(self._failures) + sum(len(ids) for ids, _ in self._held)
        if held >= _ROWS_A_FRAME or time.monotonic() - self._last >= _SECONDS_A_FRAME:
            self.flush()

    def flush(self) -> None:
        """Put on the disk what is held back.

        Raises:
            DataError: it cannot be written; what was there before is intact.
        """
        if self._held or self._failures:
            file = self._file or self._create()
            ids, features, failures = self._joined()
            self._append(file, {"ids": ids, "failures": failures}, len(ids), len(failures), features)
            self._held, self._failures = [], []
        self._last = time.monotonic()

    def frames(self) -> Iterator[tuple[list[str], Features, list[Failure]]]:
        """Give back all rows and failures, frame by frame.

        Raises:
            DataError: the file is not what was written.
        """
        if self._file is not None:
            size = self.path.stat().st_size
            with self.path.open("rb") as file:
                for head in _heads(file, size):
                    text, features = self._content(file, head)
                    if "ids" in text:
                        yield text["ids"], features, [Failure(*failure) for failure in text["failures"]]
        if self._held or self._failures:
            yield self._joined()

    def remove(self) -> None:
        """Delete the file: the run is finished."""
        self._held, self._failures = [], []
        self._close()
        self.path.unlink(missing_ok=True)

    def _joined(self) -> tuple[list[str], Features, list[Failure]]:
        ids = [id for part, _ in self._held for id in part]
        parts = [features for _, features in self._held]
        return ids, np.concatenate(parts) if parts else np.empty((0, 0), np.float32), self._failures

    def _create(self) -> IO[bytes]:
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = self.path.open("xb")
            except FileExistsError as error:
                raise DataError(f"{self.path}: another process has begun to write this output.") from error
        self._lock()
        self._append(self._file, {"depends": self._depends}, 0, 0, np.empty((0, 0), np.float32))
        return self._file

    def _reopen(self) -> None:
        with explained(self.path):
            self._file = file = self.path.open("r+b")
        self._lock()
        size, end, depends = self.path.stat().st_size, 0, None
        for head in _heads(file, size):
            try:
                if depends is None:
                    depends = self._content(file, head)[0]["depends"]
                elif head.end == size:
                    self._content(file, head)  # the last one may have been on its way when the power went
            except DataError:
                break
            self.rows, self.failed, end = self.rows + head.rows, self.failed + head.failures, head.end
        if depends is None:  # killed before the first word
            self._close()
            self.path.unlink()
            return
        for name in sorted({*depends, *self._depends}):
            was, now = depends.get(name), self._depends.get(name)
            if was != now:
                self._close()
                raise ConfigError(
                    f"{self.path} is of a run with another {name} ({was}, not {now}); give the same, or delete it to "
                    "begin anew."
                )
        file.truncate(end)
        file.seek(end)

    def _lock(self) -> None:
        """Let no second process write; the lock ends with the process."""
        try:
            import fcntl
        except ImportError:  # Windows has none, and refuses to open a file twice by itself
            return
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._close()
            raise DataError(f"{self.path}: another process is writing this output.") from error
        except OSError:  # some network file systems have no locks
            return

    def _append(self, file: IO[bytes], text: Any, rows: int, failures: int, features: Features) -> None:
        start = file.tell()
        words = json.dumps(text).encode()
        numbers = np.ascontiguousarray(features, "<f4").tobytes()
        dim = features.shape[1] if rows else 0
        checksum = zlib.crc32(numbers, zlib.crc32(words))
        try:
            with explained(self.path):
                file.write(_HEAD.pack(_MARK, rows, failures, dim, len(words), checksum))
                file.write(words)
                file.write(numbers)
                file.flush()
                os.fsync(file.fileno())
        except DataError:
            self._cut(start)
            raise

    def _cut(self, end: int) -> None:
        """Take back the half of a frame, and do not try again with this file: its buffer is full of it."""
        file, self._file = self._file, None
        assert file is not None
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            os.truncate(self.path, end)

    def _content(self, file: IO[bytes], head: _Head) -> tuple[Any, Features]:
        file.seek(head.start + _HEAD.size)
        words = file.read(head.words)
        numbers = file.read(4 * head.rows * head.dim)
        if zlib.crc32(numbers, zlib.crc32(words)) != head.checksum:
            raise DataError(f"{self.path} is damaged; delete it and begin anew.")
        return json.loads(words), np.frombuffer(numbers, "<f4").reshape(head.rows, head.dim)

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


class _Head(NamedTuple):
    rows: int
    failures: int
    dim: int
    words: int
    checksum: int
    start: int

    @property
    def end(self) -> int:
        return self.start + _HEAD.size + self.words + 4 * self.rows * self.dim


def _heads(file: IO[bytes], size: int) -> Iterator[_Head]:
    """Give the heads of all whole frames."""
    start = 0
    while start + _HEAD.size <= size:
        file.seek(start)
        mark, rows, failures, dim, words, checksum = _HEAD.unpack(file.read(_HEAD.size))
        head = _Head(rows, failures, dim, words, checksum, start)
        if mark != _MARK or head.end > size:
            return
        yield head
        start = head.end
