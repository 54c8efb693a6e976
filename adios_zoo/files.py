"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from adios_zoo.errors import DataError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, bring it to the disk and rename it to ``path``.

    Raises:
        DataError: full disk or unwritable folder; what stood at ``path`` is intact then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp and safetensors make files that only their owner reads; others may, as the umask says.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file whole; tensors may share memory and have any layout."""
    from safetensors.torch import save_file

    plain = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}

    def save(temporary: Path) -> None:
        try:
            save_file(plain, temporary, dict(metadata or {}))
        except Exception as error:  # safetensors wraps the system's errors in its own
            if "os error 28" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    write_whole(path, save)


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written: {error.strerror or error}; free space or choose another place.")
