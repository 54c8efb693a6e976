"""A first look at a model, without a network: features, cosine neighbours and masks of two photographs.

Two photographs have no neighbours worth naming, so each is also shown as its left half, its right half and
its mirror image; the features should put the views of one photograph together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from adios_zoo.images.image import read_image
from adios_zoo.pictures.draw import draw_masks
from adios_zoo.search.neighbours import nearest
from adios_zoo.zoo.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from adios_zoo.models.model import AdiosModel

Floats = NDArray[np.float32]

# The licence of the photographs asks for their authors' names.
_CREDIT = "scikit-learn's china.jpg by danielbuechele and flower.jpg by vultilion, CC BY 2.0"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        names: of the n views, such as ``china`` and ``china mirrored``.
        features: (n, D), float32.
        neighbours: for each view the most similar other view, and their cosine similarity.
        pictures: the mask pictures, one per photograph; none of a model without a masker.
    """

    names: tuple[str, ...]
    features: Floats
    neighbours: dict[str, tuple[str, float]]
    pictures: tuple[Path, ...]


def run_demo(out: str | Path, model_source: str = DEFAULT_MODEL) -> DemoResult:
    """Load a model, show what it does on scikit-learn's two photographs, write mask pictures to ``out``.

    Raises:
        AdiosError: if the model cannot be loaded or ``out`` cannot be written.
    """
    from adios_zoo.zoo.load import load_model

    model = load_model(model_source)
    print(f"Photographs  {_CREDIT}")
    return show(model, sample_photographs(), out)


def show(model: AdiosModel, photographs: Sequence[Path], out: str | Path) -> DemoResult:
    """Print features and neighbours of the photographs' views; write a mask picture of each photograph."""
    views = {name: view for path in photographs for name, view in views_of(path.stem, read_image(path)).items()}
    names = tuple(views)
    started = time.perf_counter()
    features = _features(model, list(views.values()))
    seconds = time.perf_counter() - started
    answers = nearest([features], features, len(names) - 1, own=range(len(names)))
    print(f"Model        {model.card.name}")
    print(f"Features     {len(names)} views -> {features.shape} {features.dtype} in {seconds:.2f} s")
    print("\nNearest neighbours by cosine similarity")
    print(f"  {'view':<20}{'nearest other view':<28}farthest view")
    neighbours = {}
    for name, answer in zip(names, answers, strict=True):
        (near, cosine), (far, least) = answer[0], answer[-1]
        neighbours[name] = (names[near], cosine)
        print(f"  {name:<20}{cosine:<7.3f}{names[near]:<21}{least:<7.3f}{names[far]}")

    if model.masker is None:
        print("\nMasks        none: the model was trained without a masker")
        return DemoResult(names, features, neighbours, ())
    started = time.perf_counter()
    report = draw_masks(model, photographs, out, progress=False)
    print(f"\nMasks        {len(report.written)} pictures in {time.perf_counter() - started:.1f} s")
    for picture in report.written:
        print(f"  {picture.resolve()}")
    return DemoResult(names, features, neighbours, report.written)


def sample_photographs() -> list[Path]:
    """The two photographs that scikit-learn installs: china.jpg and flower.jpg."""
    from sklearn.datasets import load_sample_images

    return [Path(name) for name in load_sample_images().filenames]


def views_of(name: str, photograph: Image.Image) -> dict[str, Image.Image]:
    """Views of one photograph by name: itself, its halves and its mirror image."""
    width, height = photograph.size
    return {
        name: photograph,
        f"{name} left half": photograph.crop((0, 0, width // 2, height)),
        f"{name} right half": photograph.crop((width // 2, 0, width, height)),
        f"{name} mirrored": ImageOps.mirror(photograph),
    }


def _features(model: AdiosModel, images: Sequence[Image.Image]) -> Floats:
    with torch.inference_mode():
        device = next(model.parameters()).device
        batch = torch.stack([model.transform(image) for image in images]).to(device)
        return np.asarray(model(batch).float().cpu().numpy(), np.float32)
