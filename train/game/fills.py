"""What a hole shows: the masked view is ``x (1 - m) + fill m``, and the fill is an image of its own for each view.

``zero`` is the data set's mean colour once pixels are normalised, and the authors' choice.  ``mean`` is the image's own
mean colour, ``blur`` the image without its fine detail, ``high_pass`` its fine detail alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..recipe.settings import Fill
from .blur import gaussian_blur


def fill_of(x: Tensor, fill: Fill, sigma: float) -> Tensor | None:
    """What the holes of the normalised images ``x`` (B, 3, S, S) show; ``None`` for zero.

    Args:
        x: one view.
        fill: its kind.
        sigma: standard deviation of the Gaussian of ``blur`` and ``high_pass``, as a share of the side S.

    Returns:
        (B, 3, S, S), or (B, 3, 1, 1) for ``mean``.
    """
    if fill == "zero":
        return None
    if fill == "mean":
        return x.mean(dim=(2, 3), keepdim=True)
    blurred = gaussian_blur(x, torch.full((len(x),), sigma * x.shape[-1], dtype=x.dtype), sigma * x.shape[-1])
    return blurred if fill == "blur" else x - blurred


def cut_out(x: Tensor, mask: Tensor, fill: Tensor | None) -> Tensor:
    """The images ``x`` (B, 3, S, S) with the mask (B, 1, S, S) cut out: 1 removes the pixel and shows the fill."""
    kept = x * (1 - mask)
    return kept if fill is None else kept + fill * mask
