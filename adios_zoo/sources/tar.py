"""Tar files: of photographs, and in the layout of WebDataset.

Every image comes out, whatever its name: all members with an image's suffix.  What cannot be read (a link that leads
out of the file) is an image too, one that fails by name.  Where names come again, the second image is called
``7.jpg#2``.  The label of an image is the text of ``.cls``, else the entry ``label`` or ``cls`` of ``.json``, under the
image's name up to one of its dots (``7.jpg`` and ``7.left.png`` have that of ``7.cls``): a number, or, if not all of
the source's are numbers, the name of a class.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import re
import tarfile
import zlib
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageRef, encoded_ref, fetched_ref, path_id
from adios_zoo.sources.find import IMAGE_SUFFIXES
from adios_zoo.sources.index import Arrays, Names, load_index, save_index
from adios_zoo.sources.labels import Beside, holds_label, text_number, text_numbers
from adios_zoo.sources.places import expand, open_file, read_part, stamp
from adios_zoo.sources.source import Source, Stream

LARGEST = 1 << 30  # bytes of an image's file after unpacking; more is a bomb, or no photograph
_COMPRESSED: dict[str, tuple[bytes, Any]] = {
    "gzip": (rb"\x1f\x8b\x08", gzip.open),
    "bzip2": (rb"BZh[1-9]1AY&SY", bz2.open),  # a member's name may begin with BZ
    "xz": (rb"\xfd7zXZ", lzma.open),
    "zstd": (rb"\x28\xb5\x2f\xfd", None),
}
_BEGINNING = 10
_LARGE = 10_000  # images; fewer are found faster than an index is worth
_WAITING = 8  # images of a stream that wait for the labels behind them
_LONGEST_CHAIN = 40  # links from one to the next, as many as Linux follows


class _Image(NamedTuple):
    name: str
    start: int
    size: int
    label: str
    reason: str = ""  # why it cannot be read


class _Found(NamedTuple):
    """An image whose label is not known yet."""

    name: str
    start: int
    size: int
    target: str  # of a link
    reason: str
    turn: Beside
    content: bytes | None = None


class _Labels:
    """The labels of one tar file.

    Where names come again, as in tar files that were put one behind the other, each turn has its own labels.
    """

    def __init__(self) -> None:
        self.turn = Beside()
        self._all = Beside()
        self._names: set[str] = set()

    def enter(self, name: str) -> None:
        """See a member go by."""
        if name in self._names:
            self._names.clear()
            self.turn = Beside()
        self._names.add(name)

    def put(self, name: str, content: bytes) -> None:
        self.turn.put(name, content)
        self._all.put(name, content)

    def of(self, image: _Found) -> str:
        return image.turn.of(image.name) or self._all.of(image.name)


class Distinct:
    """Names of images, each only once: the second ``7.jpg`` of a file is ``7.jpg#2``."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        """Return the name for the next image that is called so."""
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}#{self._seen[name]}"


class _Header(tarfile.TarInfo):
    """A member's header; one that is cut off or damaged is an error, where tarfile would take it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf[257:262] == b"ustar":  # a damaged header, also where a further tar file begins
                raise tarfile.ReadError(str(error)) from None
            raise

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Header:
        errors: Any = tarfile  # its stubs lack the errors of headers
        archive = cast("_Archive", tar)
        try:
            header = super().fromtarfile(tar)
        except errors.EOFHeaderError:
            archive.ended = True
            raise
        except (errors.TruncatedHeaderError, errors.InvalidHeaderError) as error:
            if archive.ended:  # whatever lies behind the end is no further tar file
                raise errors.EmptyHeaderError("end of file") from None
            raise tarfile.ReadError(f"{error} after byte {tar.offset}") from None
        archive.ended = False
        return header


class _Archive(tarfile.TarFile):
    """A tar file, and those that were put behind it."""

    tarinfo = _Header
    ended = False  # whether the last block was one of those that end a tar file


class Tar(Source):
    """Images of tar files, in name order of the files; where each lies is kept in an index."""

    def __init__(self, spec: str, pattern: str) -> None:
        self.spec = spec
        self._places = expand(pattern, ".tar")
        key = "\n".join(["tar 2", *(f"{place} {_stamp(place)}" for place in self._places)])
        index = load_index(key)
        if index is None:
            index = _index(self._places)
            if len(index["starts"]) >= _LARGE:
                save_index(key, index)
        self._names = Names(index["names"], index["name_ends"])
        self._starts, self._sizes, self._ends = index["starts"], index["sizes"], index["ends"]
        self._labels = index["labels"]
        self.classes = tuple(Names(index["classes"], index["class_ends"]))
        reasons = Names(index["reasons"], index["reason_ends"])
        self._reasons = dict(zip(index["failed"].tolist(), reasons, strict=True))
        if not len(self):
            raise DataError(f"{spec}: no images in these tar files.")

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._starts)

    def _ref(self, position: int) -> ImageRef:
        place = self._places[bisect_right(self._ends, position)]
        fetch = partial(read_part, place, int(self._starts[position]), int(self._sizes[position]))
        if position in self._reasons:
            fetch = partial(left_out, self._reasons[position])
        return fetched_ref(_id(place, self._names[position]), fetch, int(self._labels[position]))

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from ``start`` to ``stop``; each reference holds its encoded image.

        Raises DataError when a file can no longer be read.
        """
        end = len(self) if stop is None else min(stop, len(self))
        first = 0
        for place, last in zip(self._places, self._ends.tolist(), strict=True):
            if start < last and first < end:
                with _readable(place), open_file(place) as file:
                    for position in range(max(start, first), min(end, last)):
                        if position in self._reasons:
                            yield self._ref(position)
                            continue
                        file.seek(int(self._starts[position]))
                        content = file.read(int(self._sizes[position]))
                        yield encoded_ref(_id(place, self._names[position]), content, int(self._labels[position]))
            first = last

    def fingerprint(self) -> str:
        """By the names, sizes and labels of all images; not by the names of the tar files."""
        digest = sha256(self._names.text.tobytes())
        for numbers in (self._names.ends, self._sizes, self._labels):
            digest.update(numbers.astype("<i8").tobytes())
        return digest.hexdigest()


class TarStream(Stream):
    """Images of tar files, compressed or not, in passing.

    Only labels that are numbers are known, and of those that stand behind their image only such as follow it at once.
    """

    def __init__(self, spec: str, pattern: str) -> None:
        self.spec = spec
        self._places = expand(pattern, ".tar")

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from ``start`` to ``stop``; those before ``start`` are read and passed over."""
        return islice((ref for place in self._places for ref in _passing(place)), start, stop)

    def fingerprint(self) -> str:
        """By the names of the files, their sizes and times."""
        return sha256("\n".join(f"{place} {_stamp(place)}" for place in self._places).encode()).hexdigest()


def is_image(name: str) -> bool:
    """Whether a member is an image by its name, and not hidden."""
    file = name.rpartition("/")[2]
    return not file.startswith(".") and "." + file.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def left_out(reason: str) -> bytes:
    """Stand for the content of an image that there is no way to."""
    raise DataError(reason)


def follow(target: str, links: Mapping[str, str], there: Mapping[str, Any]) -> str | None:
    """The name of the member that a link leads to, over other links if need be; None where there is none."""
    for _ in range(_LONGEST_CHAIN):
        if target in there:
            return target
        if target not in links:
            break
        target = links[target]
    return None


def _index(places: Sequence[str]) -> Arrays:
    images: list[_Image] = []
    ends = []
    for place in places:
        with _readable(place):
            kind = _compression(read_part(place, 0, _BEGINNING))
        if kind:
            raise DataError(
                f"{place} is compressed ({kind}), so that its images cannot be reached by number; unpack it, or read "
                f"it from first to last as tar-stream:{place}."
            )
        images += _samples(place)
        ends.append(len(images))
    names = Names.of(image.name for image in images)
    labels, classes = text_numbers([image.label for image in images])
    failed = [position for position, image in enumerate(images) if image.reason]
    packed, reasons = Names.of(classes), Names.of(images[position].reason for position in failed)
    return {
        "names": names.text,
        "name_ends": names.ends,
        "starts": np.array([image.start for image in images], np.int64),
        "sizes": np.array([image.size for image in images], np.int64),
        "labels": labels,
        "ends": np.array(ends, np.int64),
        "classes": packed.text,
        "class_ends": packed.ends,
        "failed": np.array(failed, np.int64),
        "reasons": reasons.text,
        "reason_ends": reasons.ends,
    }


def _samples(place: str) -> Iterator[_Image]:
    """The images of one tar file, and where they lie."""
    found: list[_Found] = []
    labels, distinct = _Labels(), Distinct()
    there: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    with (
        _readable(place),
        open_file(place) as file,
        _Archive.open(fileobj=file, mode="r:", ignore_zeros=True) as tar,
    ):
        for member in _members(tar):
            labels.enter(member.name)
            start, size, target = member.offset_data, member.size, _target(member)
            if member.islnk() and target in there:  # the file of that name as it is by now; another may follow
                (start, size), target = there[target], ""
            path = posixpath.normpath(member.name)
            if target:
                links[path] = target
            elif member.islnk() or (member.isreg() and not member.issparse()):
                there[path] = start, size
            if member.isreg() and holds_label(member.name, member.size):
                labels.put(member.name, _read(tar, member))
            elif is_image(member.name):
                reason = "" if member.islnk() else _unreadable(member, in_passing=False)
                found.append(_Found(member.name, start, size, target, reason, labels.turn))
    for image in found:
        start, size, reason = image.start, image.size, image.reason
        if image.target:
            end = follow(image.target, links, there)
            start, size = there[end] if end else (0, 0)
            reason = "" if end else f"a link to {image.target}, which is not in the tar file"
        yield _Image(distinct(image.name), start, size, labels.of(image), reason)


def _passing(place: str) -> Iterator[ImageRef]:
    """The images of one tar file, with their contents; each waits for the labels that stand just behind it."""
    waiting: deque[_Found] = deque()
    labels, distinct = _Labels(), Distinct()
    last = ""

    def given_out(*, but: int) -> Iterator[ImageRef]:
        while len(waiting) > but:
            image = waiting.popleft()
            number = text_number(labels.of(image))
            id, label = _id(place, distinct(image.name)), -1 if number is None else number
            if image.reason:
                yield fetched_ref(id, partial(left_out, image.reason), label)
            else:
                yield encoded_ref(id, image.content, label)

    with (
        _readable(place),
        open_file(place) as file,
        _unpacked(place, file) as plain,
        _Archive.open(fileobj=plain, mode="r|", ignore_zeros=True) as tar,
    ):
        for member in _members(tar):
            key = _key(member.name)
            yield from given_out(but=_WAITING if key == last else 0)
            last = key
            labels.enter(member.name)
            if member.isreg() and holds_label(member.name, member.size):
                labels.put(member.name, _read(tar, member))
            elif is_image(member.name):
                reason, content = _unreadable(member, in_passing=True), None
                if target := _target(member):
                    reason = f"a link to {target}, which a stream cannot go back to; unpack the tar file"
                elif not reason:
                    content = _read(tar, member)
                waiting.append(_Found(member.name, 0, 0, "", reason, labels.turn, content))
        yield from given_out(but=0)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All but folders and hidden files."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # not in the stubs; else it keeps them all
        if not member.isdir() and not member.name.rpartition("/")[2].startswith("."):
            yield member


def _unreadable(member: tarfile.TarInfo, *, in_passing: bool) -> str:
    """Say why a member that is no link cannot be read."""
    if member.issym() or member.islnk():
        return ""
    if not member.isreg():
        return "not a regular file"
    if in_passing:  # what is compressed may be a bomb; tarfile fills the holes
        return f"too large to unpack safely: {member.size} bytes" if member.size > LARGEST else ""
    return "stored with holes (a sparse file); pack it anew without --sparse" if member.issparse() else ""


def _target(member: tarfile.TarInfo) -> str:
    """The name of the member that a link names; nothing for what is no link."""
    if member.islnk():
        return posixpath.normpath(member.linkname)
    if member.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    return ""


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return tar.extractfile(member).read()  # type: ignore[union-attr]  # a file


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _compression(beginning: bytes) -> str:
    return next((kind for kind, (magic, _) in _COMPRESSED.items() if re.match(magic, beginning)), "")


@contextmanager
def _unpacked(place: str, file: BinaryIO) -> Iterator[BinaryIO]:
    """The content of a compressed file, all of its parts; tarfile would stop behind the first."""
    buffered = io.BufferedReader(cast("io.RawIOBase", file))
    kind = _compression(buffered.peek(_BEGINNING)[:_BEGINNING])
    if not kind:
        yield cast("BinaryIO", buffered)
    elif _COMPRESSED[kind][1] is None:
        raise DataError(f"{place} is compressed in a way that is not read ({kind}); unpack it.")
    else:
        with _COMPRESSED[kind][1](buffered) as plain:
            yield plain


def _id(place: str, name: str) -> str:
    return path_id(f"{place}/{name}")


def _stamp(place: str) -> str:
    with _readable(place):
        return stamp(place)


@contextmanager
def _readable(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(f"{place} is not a readable tar file: {error}.") from error
