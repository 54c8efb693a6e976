"""Images to train on, decoded once and kept in memory as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageError, ImageRef, decode_image
from adios_zoo.images.thin import middle
from adios_zoo.sources.open import open_stream
from adios_zoo.sources.source import Source, Stream

from .given_masks import read_mask

_CHUNK = 512


@dataclass
class ImageSet:
    """Decoded images of one size.

    Attributes:
        images: (n, 3, S, S) uint8.
        labels: (n,) int64, -1 where unknown.
        classes: names of the labels; empty if the source has none.
        fingerprint: hash of the encoded bytes and labels, in order.
        failures: (where, reason) of every image that could not be read; they are left out.
        masks: (n, S, S) uint8, maps of the objects in each image, 0 the background; ``None`` if not asked for.
    """

    images: Tensor
    labels: Tensor
    classes: list[str]
    fingerprint: str
    failures: list[tuple[str, str]]
    masks: Tensor | None = None

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)


def load_images(
    source: str,
    *,
    size: int | None = None,
    limit: int | None = None,
    max_bad_share: float = 0.01,
    masks: bool = False,
) -> ImageSet:
    """Read and decode ``source``, with little more memory than the decoded images take.

    Args:
        source: see :mod:`adios_zoo.sources`.
        size: side in pixels; images of another size have their shorter side resized to it and the centre cut
            out.  ``None`` takes the first image's shorter side.
        limit: only the first so many images.
        max_bad_share: how large a part of the images may be unreadable, from 0 to 1.
        masks: read the images' masks too; an image whose mask cannot be read is one that cannot.

    Raises:
        ConfigError: the source is of no known kind, or a number is out of its range.
        DataError: nothing is found, a file has another layout, no image could be read, or too many could not.
    """
    if not 0 <= max_bad_share <= 1:
        raise ConfigError(f"max_bad_share is {max_bad_share}; it takes a share from 0 to 1.")
    if limit is not None and limit < 1:
        raise ConfigError(f"The number of images is {limit}; it takes a whole number from 1 up.")
    stream = open_stream(source)
    total = _total(stream, limit)
    pixels: NDArray[np.uint8] = np.empty((0, 0, 0, 4 if masks else 3), np.uint8)  # a mask is the fourth channel
    labels: list[int] = []
    failures: list[tuple[str, str]] = []
    digest = hashlib.sha256()
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for chunk in _chunks(stream.iterate(0, limit)):
            size = size or _first_side(chunk)
            loaded = pool.map(partial(_load, size=size, masked=masks), chunk)
            for ref, (content, result) in zip(chunk, loaded, strict=True):
                digest.update(content + ref.label.to_bytes(8, "little", signed=True))
                if isinstance(result, str):
                    failures.append((ref.id, result))
                    _check_share(source, failures, total, max_bad_share)
                    continue
                if len(labels) == len(pixels):
                    _resize(pixels, total or max(_CHUNK, len(labels) * 3 // 2), size)
                pixels[len(labels)] = result
                labels.append(ref.label)
    if not labels:
        raise DataError(f"No image of {source} could be read; the first problem: {failures[0] if failures else '-'}.")
    _check_share(source, failures, len(labels) + len(failures), max_bad_share)
    _resize(pixels, len(labels), len(pixels[0]))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    maps = images[:, 3] if masks else None
    return ImageSet(images[:, :3], torch.tensor(labels), list(stream.classes), digest.hexdigest(), failures, maps)


def _total(stream: Stream, limit: int | None) -> int | None:
    """How many images will come, where that is known."""
    if not isinstance(stream, Source):
        return None
    return len(stream) if limit is None else min(limit, len(stream))


def _chunks(refs: Iterator[ImageRef]) -> Iterator[list[ImageRef]]:
    while chunk := list(islice(refs, _CHUNK)):
        yield chunk


def _resize(pixels: NDArray[np.uint8], count: int, side: int) -> None:
    # In place: a large block of memory is moved by the system's page tables, not copied.
    pixels.resize((count, side, side, pixels.shape[-1]), refcheck=False)


def _check_share(source: str, failures: list[tuple[str, str]], total: int | None, limit: float) -> None:
    if total is None or len(failures) <= limit * total or len(failures) == total:
        return
    where, reason = failures[0]
    raise DataError(
        f"{len(failures)} of {total} images of {source} cannot be read, a share of {len(failures) / total:.2g}, which "
        f"is above max_bad_share={limit:g}; mend them or raise max_bad_share. The first: {where}: {reason}."
    )


def _first_side(chunk: list[ImageRef]) -> int:
    for ref in chunk:
        try:
            return min(ref.read().size)
        except ImageError:
            continue
    raise DataError("None of the first images can be read; is this the right column, and are they images?")


def _load(ref: ImageRef, size: int, *, masked: bool) -> tuple[bytes, NDArray[np.uint8] | str]:
    """The hash of an image's content, and (size, size, 3 or, with its mask, 4) uint8 or why there is none."""
    content = b""
    try:
        if ref.encoded:
            content = ref.encoded()
            image = decode_image(content, ref.id)
        else:
            image = ref.read()
            content = image.tobytes()
        mask = read_mask(ref, image) if masked else None
    except ImageError as error:
        return hashlib.sha256(content).digest(), error.reason
    pixels = _square(image, size)
    if mask is not None:
        content += mask.tobytes()
        pixels = np.dstack([pixels, _square(mask, size, Image.Resampling.NEAREST)])
    return hashlib.sha256(content).digest(), pixels


def _square(
    image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> NDArray[np.uint8]:
    image = middle(image)
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), resampling)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)
