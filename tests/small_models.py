"""Small models for tests: a card that no zoo has, weights drawn from a seed."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from adios_zoo.export.to_onnx import export

from adios_zoo.models.card import Card, MaskerFacts
from adios_zoo.models.model import AdiosModel


def small_card(**changes: object) -> Card:
    card = Card(
        name="test_resnet_shapes_simclr",
        summary="A small model for tests.",
        architecture="test_resnet",
        set="shapes",
        method="simclr",
        mask_use="all",
        input_size=32,
        crop_pct=0.8,
        crop_mode="center",
        interpolation="bilinear",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3),
        masker=MaskerFacts(image_size=32, slots=3, base_channels=8, norm="gn", blocks=4),
        license="none",
    )
    return card.replace(**changes)


def small_model(**changes: object) -> AdiosModel:
    torch.manual_seed(0)
    return AdiosModel(small_card(**changes))


def exported_model(folder: Path) -> Path:
    """A model folder with its ONNX files."""
    return Path(shutil.copytree(_exported().name, folder))


@cache
def _exported() -> TemporaryDirectory[str]:
    # An export takes ten seconds: once for all tests.
    folder = TemporaryDirectory()
    export(small_model(), folder.name)
    return folder


def saved_model(folder: Path, **changes: object) -> Path:
    return small_model(**changes).save_pretrained(folder)
