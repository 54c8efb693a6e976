"""SGD with momentum under layer-wise rates (LARS; You et al., 2017), as ADIOS is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """LARS around SGD.

    For a weight p with gradient g, rate lr and decay wd: ``r = eta |p| / (|g| + wd |p| + 1e-8)``, with ``clip``
    ``r = min(r / lr, 1)``; then ``g <- r (g + wd p)``, ``v <- momentum v + g``, ``p <- p - lr v``.  Tensors whose
    weight or gradient is all zero keep their plain gradient; with ``exclude_1d`` so do biases and norm scales
    (anything one-dimensional), which are then not decayed either.

    Args:
        params: tensors or groups, as for any torch optimiser; groups may have their own ``lr``, ``weight_decay``.
        lr: learning rate.
        momentum: of the velocity, in which the layer-wise rate is contained.
        weight_decay: decay coefficient wd.
        eta: trust coefficient.
        clip: bound the layer-wise rate by the group's.
        exclude_1d: leave one-dimensional tensors to plain SGD.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.02,
        clip: bool = True,
        exclude_1d: bool = True,
    ) -> None:
        self.eta, self.clip, self.exclude_1d = eta, clip, exclude_1d
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; tensors without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                velocity = self.state[p].get("momentum_buffer")
                if velocity is None:
                    velocity = self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                velocity.mul_(group["momentum"])
                if self.exclude_1d and p.ndim == 1:
                    velocity.add_(p.grad)
                else:
                    # In place: whole copies of the weights would take longer than the arithmetic.
                    rate, decay = self._rates(p, p.grad, group["lr"], group["weight_decay"])
                    velocity.addcmul_(p.grad, rate).addcmul_(p, decay)
                p.add_(velocity, alpha=-group["lr"])
        return loss

    def _rates(self, p: Tensor, g: Tensor, lr: float, decay: float) -> tuple[Tensor, Tensor]:
        """What gradient and weight are multiplied by, scalars on their device."""
        p_norm, g_norm = p.norm(), g.norm()
        rate = self.eta * p_norm / (g_norm + decay * p_norm + 1e-8)
        if self.clip:
            rate = (rate / lr).clamp(max=1.0)
        # Chosen with a 0/1 tensor instead of a branch on values: no wait for the device.
        plain = (p_norm == 0) | (g_norm == 0)
        return torch.where(plain, 1.0, rate), torch.where(plain, 0.0, rate * decay)
