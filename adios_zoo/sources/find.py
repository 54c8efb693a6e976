"""Image files: found in a fixed order, whatever state they are in.

Which files are taken
    folder      every file below it whose suffix is in :data:`IMAGE_SUFFIXES`, or that has no suffix and begins as
                an image does; broken or not.  Other files are no images and are passed over.  Symbolic links to
                folders are followed, each folder once.
                A sub-folder that cannot be listed is taken as if it were an image, so that reading it says why.
    glob        every file that matches, whatever its suffix (``**`` crosses folders); matched folders are
                passed over.  Folders in front whose names have brackets are taken by their names.
    list file   ``.txt`` in UTF-8 or UTF-16, one path a line, relative to the list's own folder; blank lines are
                skipped, and lines with ``#`` in front unless there is a file so called.  Every other line is taken.
    file        taken, whatever its suffix.

Folders and globs give name order, which is the order of the POSIX path strings (relative to the folder);
lists keep theirs.  Names that start with a dot are hidden and never taken from a folder or a
glob.
"""

from __future__ import annotations

import codecs
import glob
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adios_zoo.errors import DataError
from adios_zoo.images.image import PathLike, path_of
from adios_zoo.sources.index import Names, load_index, save_index

# A folder that changed so lately may change again without its clock showing it.
_SETTLED_NS = 2 * 10**9
# Fewer files are found faster than an index is worth.
_LARGE = 10_000

# Pillow also claims .pdf, .h5, .mpg, .fits and others that it cannot decode or that hold no picture; a data
# set kept beside the images must not be reported as a broken image.
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi",
    ".tga", ".tif", ".tiff", ".webp",
    # Photographs that cannot be read, or not everywhere: named among the failures, not passed over.
    ".heic", ".heics", ".heif", ".hif", ".avifs", ".jxl", ".psd",
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
))
# fmt: on

# How the content of a photograph begins; a file without a suffix is looked into.
_BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"8BPS"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x0cJXL \r\n\x87\n", b"qoif", b"FUJIFILMCCD-RAW"),
)
_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"crx ")


class Found(NamedTuple):
    """Image files of one place, in order: the path of each is ``base + name``.

    ``in_folder`` says that all were found below the folder ``base``, so that sub-folders may stand for classes.
    """

    base: str
    names: Sequence[str]
    in_folder: bool = False


def find(source: PathLike) -> Found:
    """Find the image files of a folder, glob, ``.txt`` list or single file.

    A line of a list that does not exist is kept, so that reading it reports it.

    Raises DataError when ``source`` does not exist, a folder cannot be listed, or nothing is found.
    """
    found = find_or_keep(source)
    path = path_of(os.fspath(source))
    itself = list(found.names[:2]) == [str(path)]
    if itself and path.suffix.lower() == ".txt" and path.is_file():
        raise DataError(f"{source}: the list names no image; write one path a line.")
    if itself and not _exists(path):
        raise DataError(f"{source}: no such file or folder; give a folder, a glob, a .txt list or an image file.")
    return found


def find_or_keep(item: PathLike) -> Found:
    """As :func:`find`, but a path that does not exist is kept, so that reading it reports it.

    So is a ``.txt`` that names nothing: the empty caption of a photograph beside it.
    """
    path = path_of(os.fspath(item))
    if not _exists(path):
        return _in_glob(str(path)) if glob.has_magic(str(path)) else Found("", [str(path)])
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".txt":
        return Found("", _in_list(path) or [str(path)])
    return Found("", [str(path)])


def matches(pattern: str) -> list[str]:
    """What matches a glob; folders in front that exist as they are written are taken so, brackets and all."""
    path = Path(pattern)
    there = next((folder for folder in path.parents if _exists(folder)), Path())
    if glob.has_magic(str(there)):
        pattern = str(glob.escape(str(there)) / path.relative_to(there))
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):  # ValueError: a NUL byte, which no path can hold
        return False
    return True


def _in_folder(folder: Path) -> Found:
    key = f"folder/{os.path.realpath(folder)}"
    names = _remembered(folder, key)
    if names is None:
        names = _scan(folder, key)
    if not names:
        raise DataError(
            f"{folder}: no image files in this folder; name files without an image suffix by a glob, "
            f"as '{folder.as_posix()}/*'."
        )
    return Found(str(folder / "_")[:-1], names, in_folder=True)


def _scan(folder: Path, key: str) -> Names:
    """Name the images below ``folder``, and remember a large answer for as long as no folder changes."""
    found: list[str] = []
    folders: list[str] = []
    seen: set[tuple[int, int]] = set()
    last_change = 0
    start = time.time_ns()

    unlisted: list[str] = []

    def unlistable(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise DataError(f"{error.filename}: cannot list this folder ({error.strerror}).") from error
        unlisted.append(Path(error.filename).relative_to(folder).as_posix())

    for root, below, files in os.walk(folder, followlinks=True, onerror=unlistable):
        status = os.stat(root)  # noqa: PTH116 (faster)
        if (status.st_dev, status.st_ino) in seen:  # a link back up the tree would never end
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        last_change = max(last_change, status.st_mtime_ns)
        relative = Path(root).relative_to(folder).as_posix()
        folders.append(f"{_state(status)} {relative}")
        below[:] = sorted(name for name in below if not name.startswith("."))
        base = "" if relative == "." else f"{relative}/"
        found += [base + name for name in files if not name.startswith(".") and _is_image(root, name)]
    names = Names.of(sorted(found + unlisted))
    if len(names) >= _LARGE and not unlisted and last_change < start - _SETTLED_NS:
        places = Names.of(folders)
        save_index(key, {"text": names.text, "ends": names.ends, "folders": places.text, "folder_ends": places.ends})
    return names


def _is_image(folder: str, name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (faster)
    return suffix in IMAGE_SUFFIXES or (not suffix and _begins_like_one(Path(folder, name)))


def _begins_like_one(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    boxed = head[4:8] == b"ftyp" and head[8:12] in _BRANDS
    return boxed or head.startswith(_BEGINNINGS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _remembered(folder: Path, key: str) -> Names | None:
    """The names of an earlier scan, if every folder still is as it was."""
    index = load_index(key)
    if index is None:
        return None
    for line in Names(index["folders"], index["folder_ends"]):
        state, _, relative = line.partition(" ")
        try:
            if state != _state(os.stat(path_of(os.path.join(folder, relative)))):  # noqa: PTH116, PTH118 (faster)
                return None
        except OSError:
            return None
    return Names(index["text"], index["ends"])


def _state(folder: os.stat_result) -> str:
    """What tells a folder from itself before: files that come, go or are renamed set its time."""
    return f"{folder.st_dev}-{folder.st_ino}-{folder.st_mtime_ns}"


def _in_glob(pattern: str) -> Found:
    found = (Path(match) for match in matches(pattern))
    files = sorted((path for path in found if not path.is_dir()), key=Path.as_posix)
    if not files:
        raise DataError(f"{pattern}: no file matches; '**' crosses folders, as in 'photos/**/*.jpg'.")
    return Found("", [str(path) for path in files])


def _in_list(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in _text(path.read_bytes()).split("\n")]
    except OSError as error:
        raise DataError(f"{path}: cannot read this list ({error.strerror}).") from error
    names = (line for line in lines if line and not (line.startswith("#") and not _exists(path.parent / path_of(line))))
    return [str(path.parent / path_of(name)) for name in names]


def _text(content: bytes) -> str:
    """A list's text: UTF-8, or UTF-16 as Windows' shell writes it, known by its mark or by the zeros of ASCII."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if content[:1] and content[1:2] == b"\0":
        return content.decode("utf-16-le", "replace")
    if content[:1] == b"\0":
        return content.decode("utf-16-be", "replace")
    return content.decode("utf-8-sig", "surrogateescape")
