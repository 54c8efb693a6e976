"""ADIOS encoders and maskers: load, extract features, draw masks.

Nothing heavy is imported here: each public name is looked up in its module when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adios_zoo import _checkout
from adios_zoo.late import looked_up
from adios_zoo.version import __version__ as __version__

if TYPE_CHECKING:
    from adios_zoo.errors import AdiosError as AdiosError
    from adios_zoo.features.extractor import FeatureExtractor as FeatureExtractor
    from adios_zoo.features.feature_dataset import FeatureDataset as FeatureDataset
    from adios_zoo.features.feature_dataset import GroupShuffle as GroupShuffle
    from adios_zoo.features.onnx_backend import OnnxEncoder as OnnxEncoder
    from adios_zoo.features.ray_engine import FeatureActor as FeatureActor
    from adios_zoo.features.read_file import open_features as open_features
    from adios_zoo.features.sklearn_transformer import FeatureTransformer as FeatureTransformer
    from adios_zoo.models.card import Card as Card
    from adios_zoo.models.model import AdiosModel as AdiosModel
    from adios_zoo.pictures.draw import draw_masks as draw_masks
    from adios_zoo.pictures.draw import mask_sheet as mask_sheet
    from adios_zoo.pictures.draw import predict_masks as predict_masks
    from adios_zoo.search.neighbours import find_neighbours as find_neighbours
    from adios_zoo.sources.open import open_source as open_source
    from adios_zoo.zoo.load import load_model as load_model
    from adios_zoo.zoo.registry import card as card
    from adios_zoo.zoo.registry import list_models as list_models

_HOME = {
    "AdiosError": "adios_zoo.errors",
    "AdiosModel": "adios_zoo.models.model",
    "Card": "adios_zoo.models.card",
    "FeatureActor": "adios_zoo.features.ray_engine",
    "FeatureDataset": "adios_zoo.features.feature_dataset",
    "FeatureExtractor": "adios_zoo.features.extractor",
    "FeatureTransformer": "adios_zoo.features.sklearn_transformer",
    "GroupShuffle": "adios_zoo.features.feature_dataset",
    "OnnxEncoder": "adios_zoo.features.onnx_backend",
    "card": "adios_zoo.zoo.registry",
    "draw_masks": "adios_zoo.pictures.draw",
    "find_neighbours": "adios_zoo.search.neighbours",
    "list_models": "adios_zoo.zoo.registry",
    "load_model": "adios_zoo.zoo.load",
    "mask_sheet": "adios_zoo.pictures.draw",
    "open_features": "adios_zoo.features.read_file",
    "open_source": "adios_zoo.sources.open",
    "predict_masks": "adios_zoo.pictures.draw",
}

__all__ = [
    "AdiosError",
    "AdiosModel",
    "Card",
    "FeatureActor",
    "FeatureDataset",
    "FeatureExtractor",
    "FeatureTransformer",
    "GroupShuffle",
    "OnnxEncoder",
    "card",
    "draw_masks",
    "find_neighbours",
    "list_models",
    "load_model",
    "mask_sheet",
    "open_features",
    "open_source",
    "predict_masks",
]

__getattr__, __dir__ = looked_up(__name__, _HOME)

_checkout.make_importable()
