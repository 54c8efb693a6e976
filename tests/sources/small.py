"""Images of one colour each, which their number decides, and what they lie in."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch.utils.data import Dataset

from adios_zoo.images.image import ImageRef
from adios_zoo.sources.source import Source

CLASSES = ("ant", "bee", "cow")


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def number_of(ref: ImageRef) -> int:
    red, green, blue = ref.read().getpixel((0, 0))
    assert blue == 7
    return red + 256 * green


def numbers(refs: Iterable[ImageRef]) -> list[int]:
    return [number_of(ref) for ref in refs]


class Numbers(Dataset):
    """What worker processes read: (number, label) of each image."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return number_of(self.source[index]), self.source[index].label


def write_parquet(
    path: Path,
    images: Iterable[int | bytes | None],
    *,
    classes: Sequence[str] = CLASSES,
    group: int = 4,
    image: str = "image",
) -> Path:
    """A file in the Hub's layout; a number is its PNG, bytes are taken as they are; labels go round the classes."""
    cells = [png(cell) if isinstance(cell, int) else cell for cell in images]
    rows = [None if cell is None else {"bytes": cell, "path": "x.png"} for cell in cells]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {image: pa.array(rows, struct)}
    features: dict[str, object] = {image: {"_type": "Image"}}
    if classes:
        columns["label"] = pa.array([i % len(classes) for i in range(len(cells))], pa.int64())
        features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=group)
    return path
