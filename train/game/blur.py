"""Gaussian blur of images, each by a width of its own: of views, and of what holes show."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..chance import on_device_of


def gaussian_blur(x: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Blur each image (B, 3, S, S) with its own ``sigma`` in pixels (B,), on the CPU; 0 leaves it.  Edges repeat.

    The kernel reaches as far as ``most``, the largest sigma that may come, asks for: an image's blur must not depend
    on what else is in its batch.
    """
    size, blurred = x.shape[-1], sigma.nonzero().squeeze(1)
    if not len(blurred):
        return x
    sigma = sigma[blurred]
    reach = 3 * math.ceil(most)
    taps = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (taps[None] / sigma[:, None].clamp(min=1e-3)) ** 2)
    kernel = on_device_of(x, kernel / kernel.sum(dim=1, keepdim=True))
    target = (torch.arange(size)[:, None] + taps[None]).clamp(0, size - 1)
    matrix = x.new_zeros(len(blurred), size, size)
    matrix.scatter_add_(
        2, on_device_of(x, target).expand(len(blurred), -1, -1), kernel[:, None, :].expand(-1, size, -1)
    )
    here = on_device_of(x, blurred)
    return x.index_copy(0, here, matrix.unsqueeze(1) @ x[here] @ matrix.transpose(1, 2).unsqueeze(1))
