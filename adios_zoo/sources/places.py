"""Files on this machine and at addresses that fsspec knows (s3://, gs://, https://, memory://, ...).

Nothing is kept open: what is named here can be read from any thread and any process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from operator import add
from pathlib import Path
from typing import Any, BinaryIO, cast

from adios_zoo.environment import offline
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.sources.find import IMAGE_SUFFIXES, Found, matches

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LOCAL = {"memory", "file", "local"}


def is_address(place: str) -> bool:
    """Whether ``place`` is an address, not a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", place) is not None


def expand(pattern: str, suffix: str) -> list[str]:
    """Name the files of a glob, one file, or all files with ``suffix`` below a folder, in name order.

    ``{000..012}`` in the pattern stands for every number between, with leading zeros as written.

    Raises DataError when there are none, or an address cannot be reached.
    """
    found = [place for one in _numbered(pattern) for place in _expand_one(one, suffix)]
    if not found:
        raise DataError(f"No file matches {pattern!r}; quote the pattern if the shell has a say in it.")
    return found


def find_images_at(address: str) -> Found:
    """Find the images of a folder or a glob at an address, or take it for one image.

    Raises DataError when there are none, or the address cannot be reached.
    """
    with reachable(address):
        files, path = _at(address)
        if _is_glob(address):
            base, names = "", _addresses(files, files.glob(path))
        elif files.isdir(path):
            base = address.rstrip("/") + "/"
            below = (place[len(path.rstrip("/")) + 1 :] for place in files.find(path))
            names = sorted(name for name in below if _is_image(name))
        else:
            base, names = "", [address]
    if not names:
        raise DataError(f"{address}: no image files there.")
    return Found(base, names, in_folder=bool(base))


@contextmanager
def open_file(place: str) -> Iterator[BinaryIO]:
    """Open a file for reading; raises OSError, or DataError for an address that cannot be reached."""
    if not is_address(place):
        with Path(place).open("rb") as file:
            yield file
        return
    with reachable(place):
        files, path = _at(place)
        with files.open(path, "rb") as file:
            yield file


def read_part(place: str, start: int = 0, size: int | None = None) -> bytes:
    """Return ``size`` bytes of a file from ``start``, by default all; raises as :func:`open_file`."""
    if is_address(place):
        with reachable(place):
            files, path = _at(place)
            return cast("bytes", files.cat_file(path, start or None, None if size is None else start + size))
    with Path(place).open("rb") as file:
        file.seek(start)
        return file.read(-1 if size is None else size)


def stamp(place: str) -> str:
    """What changes when a file is written anew: its size and time, or whatever its address tells of it."""
    if is_address(place):
        with reachable(place):
            files, path = _at(place)
            facts = files.info(path)
        keys = ("size", "ETag", "etag", "mtime", "LastModified", "created", "crc32c")
        return " ".join(str(facts[key]) for key in keys if key in facts)
    status = Path(place).stat()
    return f"{status.st_size} {status.st_mtime_ns}"


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Within, what goes wrong with an address is raised as one sentence.

    Raises:
        ConfigError: there is no such kind of address.
        DataError: its library is missing, or it cannot be reached, or there is nothing.
    """
    protocol = address.partition("://")[0]
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}.get(protocol)
        remedy = f"pip install {package}" if package else f"install what it needs ({error})"
        raise DataError(f"{address}: {protocol}:// addresses need a library that is not here; {remedy}.") from error
    except FileNotFoundError as error:
        raise DataError(f"{address}: there is no such file or folder.") from error
    except Exception as error:  # every library of fsspec has errors of its own
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise ConfigError(f"{address}: fsspec knows no {protocol}:// addresses.") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{address}: cannot be read: {reason}.") from error


def _at(address: str) -> tuple[Any, str]:
    import fsspec

    protocol = address.partition("://")[0]
    if protocol not in _LOCAL and (variable := offline()):
        raise DataError(f"{address}: the network is forbidden by {variable}; unset it, or name a copy on this machine.")
    # Made anew each time: fsspec keeps one for each process and thread, as its connections need.
    return cast("tuple[Any, str]", fsspec.core.url_to_fs(address))


def _expand_one(pattern: str, suffix: str) -> list[str]:
    if is_address(pattern):
        with reachable(pattern):
            files, path = _at(pattern)
            if _is_glob(pattern):
                return _addresses(files, files.glob(path))
            if not files.isdir(path):
                return [pattern]
            return [place for place in _addresses(files, files.find(path)) if place.endswith(suffix)]
    if Path(pattern).is_dir():
        pattern = str(Path(pattern) / "**" / f"*{suffix}")
    return [pattern] if Path(pattern).is_file() else sorted(matches(pattern))


def _numbered(pattern: str) -> list[str]:
    parts = _BRACES.split(pattern)
    ranges = [
        [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3], strict=True)
    ]
    return ["".join(map(add, parts[::3], [*numbers, ""])) for numbers in product(*ranges)]


def _addresses(files: Any, paths: list[str]) -> list[str]:
    return sorted(str(files.unstrip_protocol(path)) for path in paths)


def _is_glob(address: str) -> bool:
    return "*" in address  # a question mark belongs to the address


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (an address is no path)
