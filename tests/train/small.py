"""A run that takes seconds: a few small images in a parquet file, a small recipe."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from adios_zoo.train.recipe.recipe import parse_recipe
from adios_zoo.train.recipe.settings import Recipe
from PIL import Image

from adios_zoo.images.image import ImageRef

CLASSES = ["disc", "stripe", "square"]


def write_images(path: Path, count: int = 48, side: int = 32, *, broken: tuple[int, ...] = ()) -> str:
    """A parquet file in the Hub's layout with ``count`` PNG images of three classes; its source string."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(count):
        label = i % len(CLASSES)
        pixels = rng.integers(0, 60, (side, side, 3), dtype=np.uint8)
        row, column = rng.integers(0, side // 2, 2)
        pixels[row : row + side // 2, column : column + side // 2, label] += 150
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        data = b"no image" if i in broken else file.getvalue()
        rows.append({"bytes": data, "path": f"{i}.png"})
        labels.append(label)
    features = {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}
    table = pa.table(
        {
            "image": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(labels, pa.int64()),
        }
    )
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return f"parquet:{path}"


def save_in_class_folders(
    refs: Iterable[ImageRef], folder: Path, change: Callable[[Image.Image], Image.Image] = lambda image: image
) -> str:
    """Labelled images, changed, as files below folders of their classes; their source string."""
    for number, ref in enumerate(refs):
        path = folder / f"{ref.label}{CLASSES[ref.label]}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        change(ref.read()).save(path)
    return str(folder)


def small_recipe(**changes: object) -> Recipe:
    data: dict[str, object] = {
        "set": "shapes",
        "epochs": 3,
        "batch_size": 8,
        "image_size": 32,
        "encoder": {"architecture": "test_resnet"},
        "masker": {"image_size": 32, "slots": 3, "base_channels": 8},
        "game": {"projector_hidden": 16, "projector_output": 8, "predictor_hidden": 8},
        "optimiser": {"warmup_epochs": 1},
    }
    return parse_recipe(data | changes, what="the small recipe")
