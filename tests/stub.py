"""A feature extractor that only averages: for runs in processes of their own, which torch would make slow to start."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.features.write_file import Features
from adios_zoo.models.preprocess import Pixels
from adios_zoo.zoo import registry
from adios_zoo.zoo.registry import DEFAULT_MODEL


def stub_extractor(*, batch_size: int = 4, dim: int = 8, seconds: float = 0.0) -> FeatureExtractor:
    run = FeatureExtractor.__new__(FeatureExtractor)
    backend = SimpleNamespace(card=registry.card(DEFAULT_MODEL), lanes=2, weights="0", encode=_average(dim, seconds))
    run.__dict__.update(
        backend=backend,
        num_workers=2,
        batch_size=batch_size,
        name="stub",
        source="stub",
        _backend_name="stub",
        precision="fp32",
    )
    return run


def _average(dim: int, seconds: float) -> Callable[[Pixels], Features]:
    weights = np.random.default_rng(0).standard_normal((3, dim)).astype(np.float32)

    def encode(pixels: Pixels) -> Features:
        time.sleep(seconds)
        return pixels.mean((1, 2), dtype=np.float32) @ weights

    return encode
