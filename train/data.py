"""Images to train on, decoded once and kept in memory as bytes.

A source is ``parquet:GLOB``: files in the layout of the Hugging Face Hub, an ``image`` column that holds
``bytes`` (JPEG, PNG, ...) and, if there are labels, an integer ``label`` column.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images import to_rgb

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
    """

    images: Tensor
    labels: Tensor
    classes: list[str]
    fingerprint: str
    failures: list[tuple[str, str]]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)


def load_images(source: str, *, size: int | None = None, limit: int | None = None) -> ImageSet:
    """Read and decode ``source``.

    Args:
        source: ``parquet:GLOB``.
        size: side in pixels; images of another size have their shorter side resized to it and the centre cut
            out.  ``None`` takes the first image's shorter side.
        limit: only the first so many images.

    Raises:
        ConfigError: the source is of no known kind.
        DataError: no file matches, a file has another layout, or no image could be read.
    """
    kind, colon, pattern = source.partition(":")
    if not colon or kind != "parquet":
        raise ConfigError(f"Data source {source!r} is not known; write parquet:GLOB, such as parquet:data/*.parquet.")
    images: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    failures: list[tuple[str, str]] = []
    digest = hashlib.sha256()
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for chunk in _chunks(_files(pattern), limit):
            size = size or _first_side(chunk)
            decoded = pool.map(lambda row, side=size: _decode(row[1], side), chunk)
            for (where, data, label), result in zip(chunk, decoded, strict=True):
                digest.update(hashlib.sha256(data or b"").digest() + label.to_bytes(8, "little", signed=True))
                if isinstance(result, str):
                    failures.append((where, result))
                else:
                    images.append(result)
                    labels.append(label)
    if not images:
        raise DataError(f"No image of {source} could be read; the first problem: {failures[0] if failures else '-'}.")
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return ImageSet(stacked, torch.tensor(labels), _class_names(_files(pattern)[0]), digest.hexdigest(), failures)


def _files(pattern: str) -> list[Path]:
    files = sorted(Path(f) for f in glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not files:
        raise DataError(f"No file matches {pattern!r}; quote the pattern if the shell has a say in it.")
    return files


def _chunks(files: list[Path], limit: int | None) -> Iterator[list[tuple[str, bytes | None, int]]]:
    """Rows as (where, encoded bytes, label), some hundreds at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    for path in files:
        try:
            table = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is not a readable parquet file: {error}.") from error
        names = table.schema_arrow.names
        if "image" not in names:
            raise DataError(f"{path} has no column 'image' (it has {', '.join(names)}).")
        columns = ["image", *(["label"] if "label" in names else [])]
        for batch in table.iter_batches(_CHUNK, columns=columns):
            rows = []
            for entry in batch.to_pylist():
                if limit is not None and row >= limit:
                    break
                label = entry.get("label")
                rows.append((f"{path.name}[{row}]", _bytes_of(entry["image"]), -1 if label is None else label))
                row += 1
            if rows:
                yield rows
            if limit is not None and row >= limit:
                return


def _bytes_of(image: Any) -> bytes | None:
    """The encoded bytes in a cell of the image column; ``None`` if it has none."""
    found = image.get("bytes") if isinstance(image, dict) else image
    return found if isinstance(found, bytes) else None


def _first_side(chunk: list[tuple[str, bytes | None, int]]) -> int:
    for _, data, _ in chunk:
        try:
            with Image.open(io.BytesIO(data or b"")) as image:
                return int(min(image.size))
        except OSError:
            continue
    raise DataError("None of the first images can be read; is this the right column, and are they images?")


def _decode(data: bytes | None, size: int) -> np.ndarray[Any, Any] | str:
    """The image as (size, size, 3) uint8, or why there is none."""
    try:
        with Image.open(io.BytesIO(data or b"")) as opened:
            image = to_rgb(opened)
    except Exception as error:  # decoders raise whatever they like on broken bytes
        return f"{type(error).__name__}: {error}" if data else "empty"
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def _class_names(path: Path) -> list[str]:
    """Names of the classes from the metadata that the datasets library writes."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return [str(name) for name in features["label"]["names"]]
    except (KeyError, ValueError, TypeError):
        return []
