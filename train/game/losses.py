"""What the two players compare: the SimCLR, BYOL and SimSiam losses of one mask.

Each loss takes the clean views and the views with one mask cut out, by view number (1 or 2), and returns a
scalar.  Formulas: Shi et al., ICML 2022, section 3, and the papers of the three methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from adios_zoo.errors import ConfigError

from ..recipe.settings import Term


@dataclass
class Embedding:
    """What the networks make of one view of B images.

    Attributes:
        z: projections (B, P).
        p: predictions (B, P); ``None`` where the method has no predictor.
        target: projections of the momentum networks (B, P), without gradient; ``None`` where there are none.
    """

    z: Tensor
    p: Tensor | None = None
    target: Tensor | None = None


Views = Mapping[int, Embedding]
Loss = Callable[[Views, Views], Tensor]
Gather = Callable[[Tensor], Tensor]


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Normalised-temperature cross-entropy of two views (B, P) each: a scalar.

    Row i of ``z1`` and row i of ``z2`` are the two views of one image and so each other's positive; the other
    2B - 2 rows are negatives.  In float32 at least, with the diagonal left out before the softmax.
    """
    z = F.normalize(wide(torch.cat([z1, z2])), dim=1)
    logits = z @ z.T / temperature
    rows = torch.arange(len(z), device=z.device)
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(logits, (rows + len(z1)) % len(z))


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least: exponentials and norms lose too much in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _cosine(a: Tensor | None, b: Tensor | None) -> Tensor:
    if a is None or b is None:
        raise ConfigError("This loss needs a predictor (and BYOL momentum networks): the game has none.")
    return F.cosine_similarity(wide(a), wide(b.detach())).mean()


def simclr_loss(clean: Views, masked: Views, *, temperature: float, gather: Gather) -> Tensor:
    """NT-Xent between clean view 1 and masked view 2, over the rows that ``gather`` brings together."""
    return nt_xent(gather(clean[1].z), gather(masked[2].z), temperature)


def byol_loss(clean: Views, masked: Views) -> Tensor:
    """Each online prediction against the momentum projection of the other view: 2 - 2 cos, summed."""
    return 4 - 2 * _cosine(clean[1].p, masked[2].target) - 2 * _cosine(masked[2].p, clean[1].target)


def simsiam_loss(clean: Views, masked: Views, *, terms: tuple[Term, ...]) -> Tensor:
    """Mean over the terms of minus the cosine between a prediction and the other view's projection.

    Masked predictions against clean projections are always there; ``symmetry`` adds clean predictions against
    masked projections, ``no_mask`` clean against clean, ``both`` masked against masked.
    """
    pairs = [(masked, clean)]
    pairs += [(clean, masked)] if "symmetry" in terms else []
    pairs += [(clean, clean)] if "no_mask" in terms else []
    pairs += [(masked, masked)] if "both" in terms else []
    cosines = [_cosine(a[1].p, b[2].z) + _cosine(a[2].p, b[1].z) for a, b in pairs]
    return -torch.stack(cosines).sum() / (2 * len(cosines))


def make_loss(
    method: str,
    *,
    temperature: float = 0.2,
    terms: tuple[Term, ...] = (),
    gather: Gather = lambda z: z,
) -> Loss:
    """The loss of ``method`` (``simclr``, ``byol`` or ``simsiam``) with its settings bound.

    The other two are means over the batch, which the mean over the processes completes; SimCLR gathers the rows.
    """
    if method == "simclr":
        return partial(simclr_loss, temperature=temperature, gather=gather)
    if method == "byol":
        return byol_loss
    if method == "simsiam":
        return partial(simsiam_loss, terms=terms)
    raise ConfigError(f"The loss is one of simclr, byol, simsiam, not {method!r}.")
