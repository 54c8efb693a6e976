"""ADIOS encoders and maskers: load, extract features, draw masks.

Nothing heavy is imported here: each public name is looked up in its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from adios_zoo import _checkout

if TYPE_CHECKING:
    from adios_zoo.errors import AdiosError
    from adios_zoo.extract import FeatureExtractor
    from adios_zoo.feature_dataset import FeatureDataset, GroupShuffle
    from adios_zoo.model import AdiosModel, load_model
    from adios_zoo.model_card import Card
    from adios_zoo.registry import card, list_models
    from adios_zoo.sklearn_transformer import FeatureTransformer

__version__ = "0.1.0"

_HOME = {
    "AdiosError": "adios_zoo.errors",
    "AdiosModel": "adios_zoo.model",
    "Card": "adios_zoo.model_card",
    "FeatureDataset": "adios_zoo.feature_dataset",
    "FeatureExtractor": "adios_zoo.extract",
    "FeatureTransformer": "adios_zoo.sklearn_transformer",
    "GroupShuffle": "adios_zoo.feature_dataset",
    "card": "adios_zoo.registry",
    "list_models": "adios_zoo.registry",
    "load_model": "adios_zoo.model",
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
