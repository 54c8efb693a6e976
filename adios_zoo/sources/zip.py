"""Zip files of images, read where they lie; nothing is unpacked to the disk.

Which members are images and which labels they have is as in :mod:`adios_zoo.sources.tar`.  A member that is encrypted,
damaged, too large or packed in a way that is not read is an image that fails by name.
"""

from __future__ import annotations

import bz2
import posixpath
import stat
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageRef, fetched_ref, path_id
from adios_zoo.sources.index import Names
from adios_zoo.sources.labels import Beside, holds_label, text_numbers
from adios_zoo.sources.places import expand, open_file, read_part
from adios_zoo.sources.source import Source
from adios_zoo.sources.tar import LARGEST, Distinct, follow, is_image, left_out

_ENCRYPTED = 1  # the bit that says so
_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
_HEADER = 30  # bytes in front of a member's name
_LONGEST_PATH = 4096


class _Member(NamedTuple):
    """Where an image lies, as the directory at the end of the zip file says."""

    start: int
    packed: int
    size: int
    method: int
    checksum: int
    encrypted: bool


class Zip(Source):
    """Images of zip files, in name order of the files and in the order of each file's directory."""

    def __init__(self, spec: str, pattern: str) -> None:
        self.spec = spec
        self._places = expand(pattern, ".zip")
        names: list[str] = []
        labels: list[str] = []
        members: list[_Member] = []
        self._reasons: dict[int, str] = {}
        self._ends: list[int] = []
        for place in self._places:
            for name, label, member in _images(place):
                if isinstance(member, str):
                    self._reasons[len(names)] = member
                    member = _Member(0, 0, 0, 0, 0, False)
                names.append(name)
                labels.append(label)
                members.append(member)
            self._ends.append(len(names))
        if not names:
            raise DataError(f"{spec}: no images in these zip files.")
        self._names = Names.of(names)
        self._members = np.array(members, np.uint64)
        self._labels, self.classes = text_numbers(labels)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._names)

    def _ref(self, position: int) -> ImageRef:
        place = self._places[bisect_right(self._ends, position)]
        fetch = partial(_content, place, *self._members[position].tolist())
        if position in self._reasons:
            fetch = partial(left_out, self._reasons[position])
        return fetched_ref(path_id(f"{place}/{self._names[position]}"), fetch, int(self._labels[position]))

    def fingerprint(self) -> str:
        """By the names, sizes, checksums and labels of all images; not by the names of the zip files."""
        digest = sha256(self._names.text.tobytes())
        for numbers in (self._names.ends, self._members[:, 2], self._members[:, 4], self._labels):
            digest.update(numbers.astype("<i8").tobytes())
        return digest.hexdigest()


def _images(place: str) -> Iterator[tuple[str, str, _Member | str]]:
    """Name, label and place of each image of one zip file; instead of its place, why there is none."""
    labels, distinct = Beside(), Distinct()
    there: dict[str, zipfile.ZipInfo] = {}
    links: dict[str, str] = {}
    images: list[zipfile.ZipInfo] = []
    with _readable(place), open_file(place) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            path = posixpath.normpath(info.filename)
            readable = not info.flag_bits & _ENCRYPTED
            if _is_link(info) and readable and info.file_size <= _LONGEST_PATH:
                target = archive.read(info).decode("utf-8", "surrogateescape")
                links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(info.filename), target))
            else:
                there[path] = info
            if is_image(info.filename):
                images.append(info)
            elif readable and holds_label(info.filename, info.file_size) and not info.filename.startswith("__MACOSX/"):
                labels.put(info.filename, archive.read(info))
    for info in images:
        name, label = distinct(info.filename), labels.of(info.filename)
        target = links.get(posixpath.normpath(info.filename), "") if _is_link(info) else ""
        end = follow(target, links, there) if target else None
        if target and end is None:
            yield name, label, f"a link to {target}, which is not in the zip file"
        else:
            of = there[end] if end else info
            encrypted = bool(of.flag_bits & _ENCRYPTED)
            yield (
                name,
                label,
                _Member(of.header_offset, of.compress_size, of.file_size, of.compress_type, of.CRC, encrypted),
            )


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _content(place: str, start: int, packed: int, size: int, method: int, checksum: int, encrypted: int) -> bytes:
    """Unpack one member, no further than to the size that it has by the directory."""
    if encrypted:
        raise DataError("encrypted; unpack the zip file with its password")
    if method not in (_STORED, _DEFLATED, _BZIP2):
        raise DataError(f"packed in a way that is not read (method {method}); pack it anew with deflate")
    if max(size, packed) > LARGEST:
        raise DataError(f"too large to unpack safely: {max(size, packed)} bytes")
    header = read_part(place, start, _HEADER)
    if len(header) < _HEADER or not header.startswith(b"PK\x03\x04"):
        raise DataError("damaged: there is no member where the zip file's directory says")
    of_name, of_extra = struct.unpack("<HH", header[-4:])
    content = read_part(place, start + _HEADER + of_name + of_extra, packed) if packed else b""
    try:
        if method == _DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
        elif method == _BZIP2:
            content = bz2.BZ2Decompressor().decompress(content, size + 1)
    except (zlib.error, OSError) as error:
        raise DataError(f"damaged: {error}") from error
    if len(content) != size or zlib.crc32(content) != checksum:
        raise DataError("damaged: its content is not what its checksum says")
    return content


@contextmanager
def _readable(place: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged zip file makes zipfile raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{place} is not a readable zip file: {reason}.") from error
