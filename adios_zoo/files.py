"""Files that appear whole or not at all, and are written by one run at a time."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from adios_zoo.errors import DataError, DiskFullError

if TYPE_CHECKING:
    from torch import Tensor

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # on some network file systems


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the name ``path`` when the block ends, and vanishes if the block raises.

    The file is on the disk before it gets its name.  Missing folders are made.

    Raises:
        DataError: the file cannot be made or completed; what stood at ``path`` is intact.
    """
    # Without the name itself: it may be as long as the system allows.
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")
    with explained(path):
        if path.is_dir():
            raise DataError(f"{path}: this is a folder; name a file in it.")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("xb")  # not tempfile, whose files no one else may read
    try:
        with explained(path):
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.replace(path)
    finally:
        with suppress(OSError):  # on a full disk closing fails as well, and has nothing to add
            file.close()
        temporary.unlink(missing_ok=True)


@contextmanager
def only_writer(output: Path) -> Iterator[None]:
    """Within, no other run writes ``output``, in this process or another.

    The lock is a hidden file beside it, which is gone afterwards; that of a process that died does not count.

    Raises:
        DataError: another run is writing it, or its folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    path = output.with_name(f".{output.name}.lock")
    with explained(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, mode=0o666)  # in a shared folder whoever may write there may take it
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DataError(f"{output}: another run is writing it; wait for that, or name another file.") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows does not let go of an open file
                path.unlink()  # before others can take it: a lock on a file that has no name is none
            lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole."""
    with replacing(path) as file:
        file.write(text.encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file whole; tensors may share memory and have any layout and device."""
    from safetensors.torch import save

    plain = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    with replacing(path) as file:
        file.write(save(plain, dict(metadata or {})))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Within, an error of the system is raised as one sentence that says why ``path`` cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path}: the disk is full; free some space or write elsewhere with -o.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why = f"the folder {path.parent} cannot be written to; write elsewhere with -o"
        else:
            why = f"cannot be written ({error.strerror or error})"
        raise DataError(f"{path}: {why}.") from error
