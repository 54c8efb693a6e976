"""Files that hold many images: found by a pattern, opened for reading."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import BinaryIO

from adios_zoo.errors import DataError


def expand(pattern: str, suffix: str) -> list[str]:
    """Name the files of a glob, one file, or all files with ``suffix`` below a folder, in name order.

    Raises DataError when there are none.
    """
    if Path(pattern).is_dir():
        pattern = str(Path(pattern) / "**" / f"*{suffix}")
    # Path.glob takes no absolute pattern.
    found = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not found:
        raise DataError(f"No file matches {pattern!r}; quote the pattern if the shell has a say in it.")
    return found


def open_file(place: str) -> BinaryIO:
    """Open a file of :func:`expand` for reading; raises OSError."""
    return Path(place).open("rb")
