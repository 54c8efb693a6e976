"""What a source holds, in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources.open import open_stream
from adios_zoo.sources.source import Source

_SEEN = 5


def describe(spec: str, *, download: bool = False) -> Iterator[str]:
    """Say how many images a SOURCE has, which classes, and what the first ones are; see :func:`open_stream`.

    Raises:
        ConfigError: there is no such kind of source.
        DataError: nothing is found, or it cannot be read.
    """
    stream = open_stream(spec, download=download)
    yield f"source       {stream.spec}"
    if isinstance(stream, Source):
        yield f"images       {len(stream)}"
        counts = Counter(ref.label for ref in (stream[i] for i in range(len(stream))))
        known = len(stream) - counts.pop(-1, 0)
        yield f"labelled     {known}, of {len(counts)} classes" if known else "labelled     none"
    else:
        yield "images       unknown: a stream, read from first to last"
    names = list(stream.classes)
    if names:
        yield f"class names  {len(names)}: {', '.join(names[:_SEEN])}{', ...' if len(names) > _SEEN else ''}"
    yield f"fingerprint  {stream.fingerprint()}"
    empty = True
    for ref in stream.iterate(0, _SEEN):
        empty = False
        label = "no label" if ref.label < 0 else f"label {ref.label}"
        try:
            width, height = ref.read().size
        except ImageError as error:
            yield f"  {ref.id}  {label}  cannot be read: {error.reason}"
        else:
            there = [name for name, read in (("a mask", ref.mask), ("boxes", ref.boxes)) if read]
            yield f"  {ref.id}  {label}  {width} x {height}{', with ' if there else ''}{' and '.join(there)}"
    if empty:
        raise DataError(f"{spec}: no images.")
