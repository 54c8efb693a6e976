"""Sources of images: one string names them, whatever they lie in.

photos/   photos/**/*.jpg   list.txt   file.jpg      image files; class sub-folders of a folder give labels
parquet:GLOB   file.parquet                          tables in the layout of the Hugging Face Hub
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.find import Found, PathLike, find, find_or_keep
from adios_zoo.sources.places import find_images_at, is_address
from adios_zoo.sources.source import Source, Span, Stream, join

__all__ = ["Source", "Span", "Stream", "join_streams", "open_source", "open_stream"]


def open_source(spec: PathLike) -> Source:
    """Open images that can be reached by their number.

    Args:
        spec: the SOURCE.

    Raises:
        DataError: nothing is found, it cannot be read, or it is a stream, which has no length.
        ConfigError: there is no such kind of source.
    """
    source = open_stream(spec)
    if isinstance(source, Source):
        return source
    raise DataError(f"{source.spec} is a stream, which has no length and can be read only from first to last.")


def open_stream(spec: PathLike) -> Stream:
    """Open any images, to be read from first to last; a :class:`Source` where that is possible.

    Arguments and errors are those of :func:`open_source`.
    """
    text = os.fspath(spec)
    return _packed(text) or _files(text, find(text))


def join_streams(specs: Sequence[PathLike]) -> Stream:
    """Open several SOURCEs, one after the other.

    A path that does not exist is kept, so that reading it reports it.
    """
    parts: list[Stream] = []
    single: list[str] = []  # neighbours make one part, however many they are

    def close() -> None:
        if single:
            parts.append(_files(f"{single[0]} ...", Found("", single.copy())))
            single.clear()

    for spec in specs:
        text = os.fspath(spec)
        if packed := _packed(text):
            close()
            parts.append(packed)
            continue
        found = find_or_keep(text)
        if found.in_folder:
            close()
            parts.append(_files(text, found))
        else:
            single.extend(found.names)
    close()
    return join(parts)


def _files(spec: str, found: Found) -> Stream:
    from adios_zoo.sources.files import Files

    return Files(spec, found)


def _parquet(spec: str, place: str) -> Stream:
    from adios_zoo.sources.parquet import Parquet

    return Parquet(spec, place)


def _tar(spec: str, place: str) -> Stream:
    from adios_zoo.sources.tar import Tar

    return Tar(spec, place)


def _tar_stream(spec: str, place: str) -> Stream:
    from adios_zoo.sources.tar import TarStream

    return TarStream(spec, place)


_KINDS: dict[str, Callable[[str, str], Stream]] = {"parquet": _parquet, "tar": _tar, "tar-stream": _tar_stream}
_SUFFIXES = {".parquet": _parquet, ".tar": _tar}


def _packed(spec: str) -> Stream | None:
    """Open a SOURCE that is no path of image files."""
    kind, colon, place = spec.partition(":")
    if colon and kind in _KINDS:
        return _KINDS[kind](spec, place)
    if (
        near := get_close_matches(kind.lower(), _KINDS, 1)
        if colon and not (is_address(spec) or Path(spec).exists())
        else []
    ):
        raise ConfigError(f"{spec}: there is no kind of source {kind!r}; did you mean {near[0]}:{place}?")
    by_suffix = _SUFFIXES.get(Path(spec).suffix.lower())
    if by_suffix:
        return by_suffix(spec, spec)
    return _files(spec, find_images_at(spec)) if is_address(spec) else None
