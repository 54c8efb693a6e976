"""What every source of images can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate, chain, islice

from adios_zoo.images.image import ImageRef


class Stream(ABC):
    """Images in a fixed order, one after the other.

    Every stream can be pickled, read from several threads, and used after a fork.

    Attributes:
        spec: the SOURCE that it was opened by.
        classes: names of the labels; empty where unknown.
    """

    spec: str
    classes: tuple[str, ...] = ()

    @abstractmethod
    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from number ``start`` up to, not including, ``stop`` (``None``: to the end)."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Identify, without reading images, which they are and in which order; each source says by what."""

    def __iter__(self) -> Iterator[ImageRef]:
        """Refer to all images."""
        return self.iterate()


class Source(Stream):
    """Images in a fixed order, each of which can be reached by its number."""

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def _ref(self, position: int) -> ImageRef:
        """Refer to the image at ``position``, 0 <= position < len(self)."""

    def __getitem__(self, index: int) -> ImageRef:
        """Refer to one image, decoding nothing; raises IndexError beyond the ends."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.spec} has {len(self)} images; there is no number {index}")
        return self._ref(position)

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from number ``start`` up to, not including, ``stop`` (``None``: to the end)."""
        end = len(self) if stop is None else min(stop, len(self))
        return (self._ref(position) for position in range(start, end))


class Span(Source):
    """The images of a source from number ``start`` up to, not including, ``stop``."""

    def __init__(self, whole: Source, start: int, stop: int) -> None:
        self.spec, self.classes = whole.spec, whole.classes
        self._whole, self._start, self._stop = whole, start, max(start, stop)

    def __len__(self) -> int:
        """How many they are."""
        return self._stop - self._start

    def _ref(self, position: int) -> ImageRef:
        return self._whole[self._start + position]

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        """Refer to the images from number ``start`` up to, not including, ``stop`` (``None``: to the end)."""
        end = len(self) if stop is None else min(stop, len(self))
        return self._whole.iterate(self._start + start, self._start + end)

    def fingerprint(self) -> str:
        """Of the source, with both numbers."""
        return sha256(f"{self._whole.fingerprint()} {self._start} {self._stop}".encode()).hexdigest()


class Listed(Source):
    """References that exist already."""

    def __init__(self, refs: Sequence[ImageRef]) -> None:
        self.spec = f"{len(refs)} images in memory"
        self._refs = refs

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._refs)

    def _ref(self, position: int) -> ImageRef:
        return self._refs[position]

    def fingerprint(self) -> str:
        """By the names; what is in memory has nothing cheaper than itself to be known by."""
        return sha256("\n".join(ref.id for ref in self._refs).encode()).hexdigest()


def join(parts: Sequence[Stream]) -> Stream:
    """Put streams one after the other: a :class:`Source` if all of them are.

    The result has labels only where all parts have the same classes.
    """
    if len(parts) == 1:
        return parts[0]
    sources = [part for part in parts if isinstance(part, Source)]
    return _JoinedSource(sources) if len(sources) == len(parts) else _Joined(parts)


class _Joined(Stream):
    def __init__(self, parts: Sequence[Stream]) -> None:
        self.parts = parts
        self.spec = " ".join(part.spec for part in parts)
        self._labelled = len({part.classes for part in parts}) == 1
        self.classes = parts[0].classes if self._labelled else ()

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        refs = chain.from_iterable(part.iterate() for part in self.parts)
        return map(self._relabelled, islice(refs, start, stop))

    def fingerprint(self) -> str:
        """Of the parts, in order."""
        return sha256("\n".join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    def _relabelled(self, ref: ImageRef) -> ImageRef:
        return ref if self._labelled or ref.label < 0 else replace(ref, label=-1)


class _JoinedSource(_Joined, Source):
    def __init__(self, parts: Sequence[Source]) -> None:
        super().__init__(parts)
        self._sources = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def _ref(self, position: int) -> ImageRef:
        number = bisect_right(self._ends, position)
        part = self._sources[number]
        return self._relabelled(part[position - self._ends[number] + len(part)])

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        end = len(self) if stop is None else min(stop, len(self))
        for part, last in zip(self._sources, self._ends, strict=True):
            first = last - len(part)
            if start < last and first < end:
                yield from map(self._relabelled, part.iterate(max(start - first, 0), min(end, last) - first))
