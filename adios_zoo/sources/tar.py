"""Tar files in the layout of WebDataset.

Members that lie beside each other and whose names are equal up to the first dot are one sample: ``7.jpg``,
``7.cls``, ``7.json``.  The first image of a sample is taken.  Its label is the text of ``.cls``, else the entry
``label`` or ``cls`` of ``.json``: a number, or, if not all of the source's are numbers, the name of a class.
"""

from __future__ import annotations

import json
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import groupby, islice
from typing import Literal, NamedTuple

import numpy as np

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageRef, encoded_ref, fetched_ref, path_id
from adios_zoo.sources.find import IMAGE_SUFFIXES
from adios_zoo.sources.index import Arrays, Names, load_index, save_index
from adios_zoo.sources.places import expand, open_file, read_part, stamp
from adios_zoo.sources.source import Source, Stream

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_LARGE = 10_000  # images; fewer are found faster than an index is worth
_LONGEST_LABEL = 1 << 20


class _Sample(NamedTuple):
    name: str
    start: int
    size: int
    label: str
    content: bytes | None


class _Header(tarfile.TarInfo):
    """A member's header; one that is cut off or damaged is an error, where tarfile would take it for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tar)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"{error} after byte {tar.offset}") from None


class Tar(Source):
    """Images of tar files, in name order of the files; where each lies is kept in an index."""

    def __init__(self, spec: str, pattern: str) -> None:
        self.spec = spec
        self._places = expand(pattern, ".tar")
        key = "\n".join(["tar", *(f"{place} {_stamp(place)}" for place in self._places)])
        index = load_index(key)
        if index is None:
            index = _index(self._places)
            if len(index["starts"]) >= _LARGE:
                save_index(key, index)
        self._names = Names(index["names"], index["name_ends"])
        self._starts, self._sizes, self._ends = index["starts"], index["sizes"], index["ends"]
        self._labels = index["labels"]
        self.classes = tuple(Names(index["classes"], index["class_ends"]))
        if not len(self):
            raise DataError(f"{spec}: no images in these tar files.")

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._starts)

    def _ref(self, position: int) -> ImageRef:
        place = self._places[bisect_right(self._ends, position)]
        fetch = partial(read_part, place, int(self._starts[position]), int(self._sizes[position]))
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
    """Images of tar files, compressed or not, in passing; only labels that are numbers are known."""

    def __init__(self, spec: str, pattern: str) -> None:
        self.spec = spec
        self._places = expand(pattern, ".tar")

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from ``start`` to ``stop``; those before ``start`` are read and passed over."""
        return islice(self._refs(), start, stop)

    def fingerprint(self) -> str:
        """By the names of the files, their sizes and times."""
        return sha256("\n".join(f"{place} {_stamp(place)}" for place in self._places).encode()).hexdigest()

    def _refs(self) -> Iterator[ImageRef]:
        for place in self._places:
            for sample in _samples(place, "r|*"):
                label = _number(sample.label)
                yield encoded_ref(_id(place, sample.name), sample.content, -1 if label is None else label)


def _index(places: Sequence[str]) -> Arrays:
    samples: list[_Sample] = []
    ends = []
    for place in places:
        with _readable(place):
            kind = _COMPRESSED.get(read_part(place, 0, 2))
        if kind:
            raise DataError(
                f"{place} is compressed ({kind}), so that its images cannot be reached by number; unpack it, or read "
                f"it from first to last as tar-stream:{place}."
            )
        samples += _samples(place, "r:")
        ends.append(len(samples))
    names, labels = Names.of(sample.name for sample in samples), [sample.label for sample in samples]
    numbers = [_number(label) for label in labels]
    classes: list[str] = []
    if any(number is None for number in numbers):
        classes = sorted({label for label in labels if label})
        number_of = {name: number for number, name in enumerate(classes)}
        numbers = [number_of.get(label, -1) for label in labels]
    packed = Names.of(classes)
    return {
        "names": names.text,
        "name_ends": names.ends,
        "starts": np.array([sample.start for sample in samples], np.int64),
        "sizes": np.array([sample.size for sample in samples], np.int64),
        "labels": np.array(numbers, np.int64),
        "ends": np.array(ends, np.int64),
        "classes": packed.text,
        "class_ends": packed.ends,
    }


def _samples(place: str, mode: Literal["r:", "r|*"]) -> Iterator[_Sample]:
    """The samples of one tar file that have an image; their contents only if it is a stream."""
    with _readable(place), open_file(place) as file, tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as tar:
        for _, group in groupby(_members(tar, contents=mode == "r|*"), key=lambda member: _key(member.name)):
            sample = list(group)
            images = [m for m in sample if "." + _extension(m.name) in IMAGE_SUFFIXES] or [
                m for m in sample if "." + m.name.rpartition(".")[2].lower() in IMAGE_SUFFIXES
            ]
            if images:
                labels = {_extension(m.name): m.label for m in sample}
                yield images[0]._replace(label=labels.get("cls") or labels.get("json", ""))


def _members(tar: tarfile.TarFile, *, contents: bool) -> Iterator[_Sample]:
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # not in the stubs; else it keeps them all
        if not member.isreg() or member.name.rpartition("/")[2].startswith("."):
            continue
        extension = _extension(member.name)
        is_label = extension in ("cls", "json") and member.size <= _LONGEST_LABEL
        content = tar.extractfile(member).read() if is_label or contents else None  # type: ignore[union-attr] # a file
        label = _label(extension, content) if is_label and content else ""
        yield _Sample(member.name, member.offset_data, member.size, label, content if contents else None)


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _extension(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


def _label(extension: str, content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    if extension == "cls":
        return text
    try:
        entries = json.loads(text)
    except ValueError:
        return ""
    if not isinstance(entries, dict):
        return ""
    found = next((entries[key] for key in ("label", "cls") if entries.get(key) is not None), "")
    return str(found) if isinstance(found, int | str) else ""


def _number(label: str) -> int | None:
    """The label as a number, -1 where there is none, None for the name of a class."""
    if not label:
        return -1
    try:
        return int(label)
    except ValueError:
        return None


def _id(place: str, name: str) -> str:
    return path_id(f"{place}/{name}")


def _stamp(place: str) -> str:
    with _readable(place):
        return stamp(place)


@contextmanager
def _readable(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{place} is not a readable tar file: {error}.") from error
