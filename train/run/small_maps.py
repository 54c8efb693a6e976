"""Convolutions with small results, done as the matrix products that they are.

An encoder made for images of 224 pixels ends on maps of one to four positions when it is given 32 or 64.  There most
taps of a 3x3 convolution lie on the padding, and oneDNN's backward pass works through them all the same: of a
ResNet-18's step at 32 pixels it is nearly half.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_MOST_POSITIONS = 4


def fast_small_maps(device: torch.device) -> AbstractContextManager[object]:
    """Within, a convolution whose result has few positions is a matrix product for each, on a CPU.

    Results and gradients are those of the convolution but for the last bits.
    """
    return _SmallMaps() if device.type == "cpu" else nullcontext()


class _SmallMaps(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Seen(NamedTuple):
    """What one position of the result sees along one axis: the taps, and the places under them."""

    taps: slice
    places: slice


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str) or groups != 1 or _pair(dilation) != (1, 1) or x.ndim != 4:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    rows, columns = (
        _axis(side, kernel, s, p)
        for side, kernel, s, p in zip(x.shape[2:], weight.shape[2:], _pair(stride), _pair(padding), strict=True)
    )
    if not 0 < len(rows) * len(columns) <= _MOST_POSITIONS:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    products = [
        F.linear(x[:, :, r.places, c.places].flatten(1), weight[:, :, r.taps, c.taps].flatten(1), bias)
        for r in rows
        for c in columns
    ]
    # In memory the channels come last, as the other convolutions leave them.
    return torch.stack(products, dim=1).view(len(x), len(rows), len(columns), -1).permute(0, 3, 1, 2)


def _axis(side: int, kernel: int, stride: int, padding: int) -> list[_Seen]:
    """What each position of the result sees; nothing if one sees the padding alone or there is none."""
    seen = []
    for start in range(-padding, side + padding - kernel + 1, stride):
        first, end = max(start, 0), min(start + kernel, side)
        if first >= end:
            return []
        seen.append(_Seen(slice(first - start, end - start), slice(first, end)))
    return seen


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
