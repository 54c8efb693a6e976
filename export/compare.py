"""What a backend is compared with torch on, and by what measure."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adios_zoo.features.onnx_backend import make_session

TOLERANCE = 1e-4  # relative to the largest value, float32


def worst_difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest absolute difference over the largest absolute value expected; infinite for another shape or NaN."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(expected - found).max() / max(float(np.abs(expected).max()), 1e-12))


def photographs(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """``count`` different crops of real photographs: (count, H, W, 3) uint8, or (count, 3, H, W) of unit scale."""
    height, width = shape[:2] if dtype == torch.uint8 else shape[1:]
    crops = []
    for i in range(count):
        photo = _samples()[i % 2]
        # Round the edges where the photograph is smaller than the input.
        rows, columns = np.arange(37 * i, 37 * i + height), np.arange(61 * i, 61 * i + width)
        crops.append(photo[rows % photo.shape[0]][:, columns % photo.shape[1]])
    stacked = torch.from_numpy(np.stack(crops))
    if dtype == torch.uint8:
        return stacked
    return ((stacked.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.225).contiguous()


def session(model: bytes) -> Any:
    """An ONNX Runtime session on the CPU for a serialised model."""
    return make_session(model, "cpu", fallback=False, threads=torch.get_num_threads())


@cache
def _samples() -> list[NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    return [np.asarray(image) for image in load_sample_images().images]
