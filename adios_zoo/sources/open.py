"""Sources of images: one string, a SOURCE, names them, whatever they lie in.

==================================================  ==============================================================
``photos/``, ``photos/**/*.jpg``, ``list.txt``      image files; the sub-folders of a folder are classes
``parquet:GLOB``, ``file.parquet``                  tables in the layout of the Hugging Face Hub
``tar:GLOB``, ``file.tar``                          tar files; ``tar-stream:``, ``file.tgz`` in passing
``zip:GLOB``, ``file.zip``                          zip files
``hf:ORG/NAME[:CONFIG][@REVISION][#SPLIT]``         by the ``datasets`` library; ``hf-stream:`` in passing
``torchvision:NAME[:SPLIT]``                        data sets that torchvision reads
``s3://...``, ``gs://...``, ``https://...``, ...    a folder, glob, image, .parquet, .tar, .tgz or .zip, by fsspec
==================================================  ==============================================================

What is read in passing has no length and is reached from the front only; everything else is a :class:`Source`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageRef, PathLike, pixels_ref
from adios_zoo.sources.columns import split_columns
from adios_zoo.sources.find import Found, find, find_or_keep
from adios_zoo.sources.places import find_images_at, is_address
from adios_zoo.sources.source import Listed, Source, Stream, join

ImageInput: TypeAlias = "PathLike | Image.Image | NDArray[Any]"
Images: TypeAlias = "ImageInput | Iterable[ImageInput]"

_KINDS = ("parquet", "tar", "tar-stream", "zip", "hf", "hf-stream", "torchvision")
_COMPRESSED_TARS = (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SUFFIXES = {".parquet": "parquet", ".tar": "tar", ".zip": "zip", **dict.fromkeys(_COMPRESSED_TARS, "tar-stream")}


def open_source(spec: PathLike, *, root: PathLike | None = None, download: bool = False) -> Source:
    """Open images that can be reached by their number.

    Args:
        spec: the SOURCE.
        root: where torchvision's data sets lie; by default see :mod:`adios_zoo.sources.torchvision_sets`.
        download: let torchvision fetch a data set that is not there.

    Raises:
        DataError: nothing is found, it cannot be read, or it is a stream, which has no length.
        ConfigError: there is no such kind of source.
    """
    source = open_stream(spec, root=root, download=download)
    if isinstance(source, Source):
        return source
    raise DataError(f"{source.spec} is a stream, which has no length and can be read only from first to last.")


def open_stream(spec: PathLike, *, root: PathLike | None = None, download: bool = False) -> Stream:
    """Open any images, to be read from first to last; a :class:`Source` where that is possible.

    Arguments and errors are those of :func:`open_source`.
    """
    text = os.fspath(spec)
    packed = _packed(text, root=root, download=download)
    return _files(text, find(text)) if packed is None else packed


def open_images(images: Images) -> Iterable[ImageRef]:
    """Name every image of ``images`` without decoding any.

    ``images`` is a SOURCE (see above), a path, a PIL image, an array (H,W), (H,W,1), (H,W,3)
    or (H,W,4) of uint8 or (H,W) of uint16, a batch (N,H,W,C) of uint8, or a mixture of all in one iterable.
    Paths are their own id; a PIL image or an array is ``#i``, its position in the iterable from 0.

    Returns a :class:`~adios_zoo.sources.source.Source`, which makes references as they are asked for; where the end is
    not known beforehand, a :class:`~adios_zoo.sources.source.Stream`; for an iterator, one that consumes it lazily.

    Raises DataError when nothing is found.
    """

    if isinstance(images, (str, os.PathLike)):
        return open_stream(images)
    if isinstance(images, Image.Image):
        images = [images]
    elif isinstance(images, np.ndarray):
        images = list(images) if images.ndim == 4 else [images]

    def opened(numbered: Iterable[tuple[int, ImageInput]]) -> Iterator[Stream]:
        for are_sources, group in groupby(numbered, key=lambda pair: isinstance(pair[1], (str, os.PathLike))):
            if are_sources:
                yield join_streams([os.fspath(cast("PathLike", item)) for _, item in group])
            else:
                yield Listed([pixels_ref(f"#{position}", item) for position, item in group])

    if isinstance(images, Iterator):
        return (ref for pair in enumerate(images) for stream in opened([pair]) for ref in stream)
    parts = list(opened(enumerate(images)))
    if not parts:
        raise DataError("no images were given: pass at least one path, PIL image or array.")
    return join(parts)


def join_streams(specs: Sequence[PathLike]) -> Stream:
    """Open several SOURCEs, one after the other.

    A path that does not exist is kept, so that reading it reports it.
    """
    parts: list[Stream] = []
    single: list[str] = []  # neighbours make one part, however many they are

    def close() -> None:
        if single:
            spec = single[0] if len(single) == 1 else f"{single[0]} and {len(single) - 1} more"
            parts.append(_files(spec, Found("", single.copy())))
            single.clear()

    for spec in specs:
        text = os.fspath(spec)
        packed = _packed(text)
        if packed is not None:
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


def _packed(spec: str, *, root: PathLike | None = None, download: bool = False) -> Stream | None:
    """Open a SOURCE that is no path of image files; None for one that is."""
    kind, colon, place = spec.partition(":")
    if colon and kind in _KINDS:
        return _open(kind, spec, place, root, download)
    near = get_close_matches(kind.lower(), _KINDS, 1) if colon else []
    if near and not is_address(spec) and not Path(spec).exists():
        raise ConfigError(f"{spec}: there is no kind of source {kind!r}; did you mean {near[0]}:{place}?")
    path = split_columns(spec)[0]
    for suffix, packed in _SUFFIXES.items():
        # A folder may be called as the file that it came from; of parquet files and tars there are folders so named.
        if path.lower().endswith(suffix) and (suffix in (".parquet", ".tar") or not Path(path).is_dir()):
            return _open(packed, spec, spec, root, download)
    return _files(spec, find_images_at(spec)) if is_address(spec) else None


def _open(kind: str, spec: str, place: str, root: PathLike | None, download: bool) -> Stream:
    # Each kind has a library of its own, which nobody should wait for who does not use it.
    if kind == "parquet":
        from adios_zoo.sources.parquet import Parquet

        return Parquet(spec, *split_columns(place))
    if kind in ("tar", "tar-stream"):
        from adios_zoo.sources.tar import Tar, TarStream

        return Tar(spec, place) if kind == "tar" else TarStream(spec, place)
    if kind == "zip":
        from adios_zoo.sources.zip import Zip

        return Zip(spec, place)
    if kind in ("hf", "hf-stream"):
        from adios_zoo.sources.hub import HubDataset, HubStream

        data, asked = split_columns(place)
        return HubDataset(spec, data, asked) if kind == "hf" else HubStream(spec, data, asked)
    from adios_zoo.sources.torchvision_sets import open_torchvision

    return open_torchvision(spec, place, root=root, download=download)
