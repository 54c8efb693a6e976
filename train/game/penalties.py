"""What keeps the masker honest: the sparsity and the entropy penalty on the areas of its masks.

The area of a mask is the mean of its values over the pixels, between 0 and 1.  A list of areas has one entry
(B, N) for each view that the method masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Areas are in float32 at least, since half precision has no 1e-10; the sine of what float32 has for pi is just below 0,
# which would reward a mask that hides everything.
_EPSILON = 1e-10


def areas(masks: Tensor) -> Tensor:
    """Area of each mask of ``masks`` (B, N, H, W): (B, N), in float32 (float64 stays)."""
    return masks.mean(dim=(-2, -1), dtype=torch.promote_types(masks.dtype, torch.float32))


def sparsity(views: list[Tensor]) -> Tensor:
    """Sum over masks and views of the batch mean of 1 / sin(pi area): large for empty and for full masks."""
    return torch.stack([(1 / (torch.sin(math.pi * a).clamp(min=0) + _EPSILON)).mean(0).sum() for a in views]).sum()


def entropy(views: list[Tensor], *, jointly: bool) -> Tensor:
    """Sum over the batch of s log s, with s the softmax of one image's areas: a negative entropy.

    With ``jointly`` the softmax runs over the areas of all views together (SimSiam with all N masks), else each
    view has its own and the values are summed.
    """
    groups = [torch.cat(views, dim=1)] if jointly else views
    total = torch.zeros((), device=views[0].device, dtype=views[0].dtype)
    for group in groups:
        s = group.softmax(dim=1)
        total = total + (s * s.log()).sum()
    return total
