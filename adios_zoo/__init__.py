"""ADIOS encoders and maskers: load, extract features, draw masks.

Nothing heavy is imported here: each public name is looked up in its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from adios_zoo import _checkout
from adios_zoo.version import __version__ as __version__

if TYPE_CHECKING:
    from adios_zoo.errors import AdiosError
    from adios_zoo.features.extractor import FeatureExtractor
    from adios_zoo.features.feature_dataset import FeatureDataset, GroupShuffle
    from adios_zoo.features.sklearn_transformer import FeatureTransformer
    from adios_zoo.models.card import Card
    from adios_zoo.models.model import AdiosModel, load_model
    from adios_zoo.zoo.registry import card, list_models

_HOME = {
    "AdiosError": "adios_zoo.errors",
    "AdiosModel": "adios_zoo.models.model",
    "Card": "adios_zoo.models.card",
    "FeatureDataset": "adios_zoo.features.feature_dataset",
    "FeatureExtractor": "adios_zoo.features.extractor",
    "FeatureTransformer": "adios_zoo.features.sklearn_transformer",
    "GroupShuffle": "adios_zoo.features.feature_dataset",
    "card": "adios_zoo.zoo.registry",
    "list_models": "adios_zoo.zoo.registry",
    "load_model": "adios_zoo.models.model",
}

__all__ = [
    "AdiosError",
    "AdiosModel",
    "Card",
    "FeatureDataset",
    "FeatureExtractor",
    "FeatureTransformer",
    "GroupShuffle",
    "card",
    "list_models",
    "load_model",
]

_checkout.make_importable()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adios_zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
