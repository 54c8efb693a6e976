"""The authors' release as it is published, opened without trusting it: a zip archive or an unpacked folder.

Nothing is extracted under a name that the archive chose: the two members that are needed are found by their place in
the layout ``<archive>/<run>/{args.json, *.ckpt}`` and copied, under limits, to names of our own.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adios_zoo.errors import ConfigError, IntegrityError
from adios_zoo.files import explained

MAX_MEMBERS = 1000  # of a release; the published layout has two
MAX_DIRECTORY = 1 << 20  # bytes of a release's list of members
MAX_CHECKPOINT = 8 << 30  # bytes; a ViT-Large with momentum network and optimiser has about 4 GiB
MAX_ARGS = 1 << 20  # bytes; the published ones have 4 KiB
MAX_RATIO = 100  # unpacked to packed size; weights hardly shrink at all

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,  # zipfile's word for a password
    ValueError,
    OverflowError,
    LookupError,
)
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")  # end of central directory, and its 64-bit form below
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_BYTES = 20

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """An opened release.

    Attributes:
        args: what ``args.json`` holds.
        checkpoint: the ``.ckpt``, to be read while the release is open; its content is not yet checked.
        what: names the release in messages.
    """

    args: dict[str, Any]
    checkpoint: Path
    what: str


@contextmanager
def open_release(path: Path) -> Iterator[Release]:
    """Open a release for the length of the block: a zip archive, an unpacked one, or a run's folder in it.

    Raises:
        ConfigError: there is no such file or folder.
        IntegrityError: it is not a release, is damaged, or is made to do harm.
        DataError: no room for a copy of the checkpoint.
    """
    if path.is_dir():
        args, checkpoint = (_regular(path, parts) for parts in _one_run(_names_below(path), str(path)))
        _check_size(args, args.stat().st_size, MAX_ARGS)
        _check_size(checkpoint, checkpoint.stat().st_size, MAX_CHECKPOINT)
        yield Release(_parsed(args.read_bytes(), str(path)), checkpoint, str(path))
    elif path.is_file():
        # A file that a tensor is still mapped from cannot be deleted on Windows.
        with TemporaryDirectory(prefix="adios-", ignore_cleanup_errors=True) as folder:
            args, checkpoint = Path(folder) / "args.json", Path(folder) / "release.ckpt"
            _copy_from_zip(path, args, checkpoint)
            yield Release(_parsed(args.read_bytes(), str(path)), checkpoint, str(path))
    else:
        raise ConfigError(f"There is no release {path}: give a downloaded .zip, or the folder that it unpacks to.")


def shown(name: object) -> str:
    """A name from an untrusted source for a message: on one line, and not too long."""
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:90]}..."


def check_directory(path: Path, most: int) -> None:
    """Refuse a zip archive whose list of members is longer than ``most`` bytes, before anything parses it.

    Raises:
        IntegrityError: it is longer, or the file does not end as a zip archive does.
    """
    bad = IntegrityError(f"{path} is not a whole zip archive; fetch it again.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - (1 << 16) - _END.size - _LOCATOR_BYTES - _END64.size)
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise bad
    *_, length, _, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise bad
    locator = at - _LOCATOR_BYTES
    if locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        at64 = locator - _END64.size
        if at64 < 0 or tail[at64 : at64 + 4] != b"PK\6\6":
            raise bad
        length = _END64.unpack_from(tail, at64)[8]
    if length > most:
        raise IntegrityError(f"{path} lists {length} bytes of member names, more than the {most} that one may have.")


def _copy_from_zip(path: Path, args: Path, checkpoint: Path) -> None:
    check_directory(path, MAX_DIRECTORY)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked(archive.infolist(), str(path))
            args_parts, checkpoint_parts = _one_run(members, str(path))
            _copy(archive, members[args_parts], args, MAX_ARGS, path)
            _copy(archive, members[checkpoint_parts], checkpoint, MAX_CHECKPOINT, path)
    except _BROKEN as error:
        raise IntegrityError(f"{path} is a damaged zip archive ({_reason(error)}); fetch it again.") from error


def _checked(members: list[zipfile.ZipInfo], what: str) -> dict[Parts, zipfile.ZipInfo]:
    """The files among the members by their path, if not one member is suspicious."""
    if len(members) > MAX_MEMBERS:
        raise IntegrityError(f"{what} has {len(members)} members; a release has at most {MAX_MEMBERS}.")
    found: dict[Parts, zipfile.ZipInfo] = {}
    seen: set[Parts] = set()
    for info in members:
        name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in info.orig_filename:
            raise IntegrityError(f"{what}: member {shown(name)} points out of the archive; it is not extracted.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise IntegrityError(f"{what}: member {shown(name)} is a link or a device, which no release has.")
        if info.flag_bits & 1:
            raise IntegrityError(f"{what}: member {shown(name)} is encrypted, which no release is.")
        if parts in seen:
            raise IntegrityError(f"{what}: member {shown(name)} is there twice.")
        seen.add(parts)
        if not info.is_dir() and parts:
            found[parts] = info
    return found


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, most: int, path: Path) -> None:
    name = f"{path}: member {shown(info.filename)}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise IntegrityError(f"{name} is packed by a method other than deflate.")
    _check_size(name, info.file_size, most)
    if info.file_size > MAX_RATIO * info.compress_size + _CHUNK:
        raise IntegrityError(f"{name} unpacks to more than {MAX_RATIO} times its size, which no weights do.")
    with explained(target):
        file = target.open("xb")
    with file, archive.open(info) as source:
        left = info.file_size
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            with explained(target):
                file.write(chunk)
    if left:
        raise IntegrityError(f"{name} has another size than it states.")


def _names_below(root: Path) -> list[Parts]:
    """Files to two folders below ``root``; links to folders are not followed."""
    found: list[Parts] = []
    folders: list[Parts] = [()]
    count = 0
    while folders:
        parts = folders.pop()
        with explained(root), os.scandir(root.joinpath(*parts)) as entries:
            for entry in entries:
                count += 1
                if count > 10 * MAX_MEMBERS:
                    raise IntegrityError(f"{root} holds too many files for a release; give the folder of the run.")
                if not entry.is_dir(follow_symlinks=False):
                    found.append((*parts, entry.name))
                elif len(parts) < 2:
                    folders.append((*parts, entry.name))
    return found


def _one_run(names: Iterable[Parts], what: str) -> tuple[Parts, Parts]:
    """Where ``args.json`` and the checkpoint of the only run lie."""
    runs: dict[Parts, list[Parts]] = {}
    with_args = set()
    for parts in names:
        if "__MACOSX" in parts or parts[-1].startswith("._"):
            continue
        if parts[-1] == "args.json":
            with_args.add(parts[:-1])
        elif parts[-1].endswith(".ckpt"):
            runs.setdefault(parts[:-1], []).append(parts)
    whole = sorted(with_args & runs.keys())
    if not whole:
        raise IntegrityError(f"{what} is not a release: no folder in it has both an args.json and a .ckpt file.")
    if len(whole) > 1:
        runs_shown = ", ".join(shown("/".join(run)) for run in whole[:3])
        raise IntegrityError(f"{what} holds {len(whole)} runs ({runs_shown}); unpack it and give the folder of one.")
    checkpoints = runs[whole[0]]
    if len(checkpoints) > 1:
        raise IntegrityError(f"{what} holds {len(checkpoints)} .ckpt files in one run; leave only the one to convert.")
    return (*whole[0], "args.json"), checkpoints[0]


def _regular(root: Path, parts: Parts) -> Path:
    """The file itself, links resolved, if it is a plain file below ``root``."""
    path = root.joinpath(*parts)
    try:
        real = path.resolve(strict=True)
        inside = real.is_relative_to(root.resolve(strict=True)) and real.is_file()
    except (OSError, RuntimeError) as error:
        raise IntegrityError(f"{path} cannot be read: {_reason(error)}.") from error
    if not inside:
        raise IntegrityError(f"{path} is a link out of the release, or no plain file; it is not followed.")
    return real


def _check_size(what: object, size: int, most: int) -> None:
    if size > most:
        raise IntegrityError(f"{what} has {size} bytes, more than the {most} that it may have.")


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        args = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{what}: args.json is not JSON ({_reason(error)}).") from error
    if not isinstance(args, dict):
        raise IntegrityError(f"{what}: args.json holds no settings.")
    return args


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(text.splitlines()[0])[1:-1] if text else type(error).__name__
