"""The game pass by pass, as the authors play it: slow, and simple enough to be believed.

Nothing is shared.  Every mask has its clean views encoded again, all masks' losses make one graph with one backward
pass, the probe encodes its images once more, the masker's turn makes masks and momentum projections anew, and the
update goes tensor by tensor.  Formulas: Shi et al., ICML 2022, section 3.  The tests compare ``game.py`` with it, and
``adios bench train`` times both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .game import Game
from .optim import LARS

Views = Mapping[int, Tensor]


class PlainGame:
    """The turns of ``game`` on its own networks and rules, without any of its sharing (float32 or float64).

    The authors' rules alone: holes show zero, no masked view is left whole, the masker is an adversary.
    """

    def __init__(self, game: Game) -> None:
        self.game, self.rules = game, game.settings

    def encoder_turn(self, x: Views, index: Tensor | None, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Back-propagate loss and probe together.

        Args:
            x: the two views by number, (B, 3, H, W) each.
            index: (B,) the mask of each image, or ``None`` for all.
            labels: (B,) for the probe, -1 for unknown.

        Returns:
            The loss summed over the masks, and the probe's, 0 without labels.
        """
        with torch.no_grad():
            masks = self._masks(x)
        loss, probe = self._loss(x, masks, index), torch.zeros(())
        if labels is not None and self.game.classifier is not None:
            probe = self._probe(x, labels, self.game.classifier)
        (loss + probe).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), probe.detach()

    def masker_turn(self, x: Views, index: Tensor | None) -> Tensor:
        """Back-propagate minus the masker's objective into the masker; returns the objective."""
        parameters = [p for network in self.game.players() for p in network.parameters()]
        for p in parameters:
            p.requires_grad_(False)
        masks = self._masks(x)
        objective = self._loss(x, masks, index) - self._penalty(masks)
        (-objective).backward()  # type: ignore[no-untyped-call]
        for p in parameters:
            p.requires_grad_(True)
        return objective.detach()

    def step(
        self,
        x: Views,
        labels: Tensor | None,
        indices: tuple[Tensor | None, Tensor | None],
        optimisers: tuple[LARS, LARS],
        tau: float = 1.0,
    ) -> None:
        """Both turns and updates, the encoder's first; then the momentum networks move, if there are any."""
        optimisers[0].zero_grad()
        self.encoder_turn(x, indices[0], labels)
        update(optimisers[0])
        optimisers[1].zero_grad()
        self.masker_turn(x, indices[1])
        update(optimisers[1])
        self._move_momentum(tau)

    def _masks(self, x: Views) -> dict[int, Tensor]:
        assert self.game.masker is not None
        views = (1, 2) if self.rules.method == "simsiam" else (2,)
        return {v: self.game.masker(x[v]) for v in views}

    def _loss(self, x: Views, masks: Views, index: Tensor | None) -> Tensor:
        if index is not None:
            rows = torch.arange(len(index), device=index.device)
            return self._one(x, {v: m[rows, index] for v, m in masks.items()})
        slots = next(iter(masks.values())).shape[1]
        return torch.stack([self._one(x, {v: m[:, k] for v, m in masks.items()}) for k in range(slots)]).sum()

    def _one(self, x: Views, mask: Views) -> Tensor:
        """The loss of one mask (B, H, W) a view."""
        masked = {v: x[v] * (1 - m[:, None]) for v, m in mask.items()}
        if self.rules.method == "simclr":
            return self._contrast(self._z(x[1]), self._z(masked[2]))
        if self.rules.method == "byol":
            t1, t2 = self._target(x[1]), self._target(masked[2])
            p1, p2 = self._p(self._z(x[1])), self._p(self._z(masked[2]))
            return (2 - 2 * _cosine(p1, t2)) + (2 - 2 * _cosine(p2, t1))
        z = [self._z(x[1]), self._z(x[2])]
        zm = [self._z(masked[1]), self._z(masked[2])]
        p, pm = [self._p(a) for a in z], [self._p(a) for a in zm]
        pairs = [(pm[0], z[1]), (pm[1], z[0])]
        pairs += [(p[1], zm[0]), (p[0], zm[1])] if "symmetry" in self.rules.terms else []
        pairs += [(p[0], z[1]), (p[1], z[0])] if "no_mask" in self.rules.terms else []
        pairs += [(pm[0], zm[1]), (pm[1], zm[0])] if "both" in self.rules.terms else []
        return torch.stack([-_cosine(a, b.detach()) for a, b in pairs]).mean()

    def _contrast(self, z1: Tensor, z2: Tensor) -> Tensor:
        z = F.normalize(torch.cat([z1, z2]), dim=1)
        similar = (z @ z.T / self.rules.temperature).exp()
        others = similar.sum(dim=1) - similar.diagonal()
        positive = torch.cat([similar.diagonal(len(z1)), similar.diagonal(-len(z1))])
        return -(positive / others).log().mean()

    def _penalty(self, masks: Views) -> Tensor:
        areas = [m.mean(dim=(2, 3)) for m in masks.values()]
        sparsity = torch.stack([1 / (torch.sin(math.pi * a) + 1e-10) for a in areas]).mean(dim=1).sum()
        together = [torch.cat(areas, dim=1)] if self.rules.mask_use == "all" else areas
        entropy = torch.stack([(a.softmax(1) * a.log_softmax(1)).sum() for a in together]).sum()
        return self.rules.alpha_sparsity * sparsity - self.rules.alpha_entropy * entropy

    def _probe(self, x: Views, labels: Tensor, classifier: nn.Module) -> Tensor:
        losses = []
        for view in (x[1], x[2]):
            with torch.no_grad():
                if self.game.momentum_encoder is not None:
                    self.game.momentum_encoder(view)  # the authors' step encodes it too, though nothing uses it
                features = self.game.encoder(view)
            losses.append(F.cross_entropy(classifier(features), labels, ignore_index=-1))
        return torch.stack(losses).mean()

    def _z(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.game.projector(self.game.encoder(x)))

    def _p(self, z: Tensor) -> Tensor:
        assert self.game.predictor is not None
        return cast("Tensor", self.game.predictor(z))

    def _target(self, x: Tensor) -> Tensor:
        assert self.game.momentum_encoder is not None
        assert self.game.momentum_projector is not None
        with torch.no_grad():
            return cast("Tensor", self.game.momentum_projector(self.game.momentum_encoder(x)))

    @torch.no_grad()
    def _move_momentum(self, tau: float) -> None:
        g = self.game
        for slow, fast in ((g.momentum_encoder, g.encoder), (g.momentum_projector, g.projector)):
            if slow is not None:
                for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
                    p.copy_(tau * p + (1 - tau) * q)


@torch.no_grad()
def update(optimiser: LARS) -> None:
    """One step of LARS around SGD, tensor by tensor, with the optimiser's groups, settings and velocities."""
    for group in optimiser.param_groups:
        lr, decay = group["lr"], group["weight_decay"]
        for p in group["params"]:
            if p.grad is None:
                continue
            g = p.grad
            p_norm, g_norm = torch.norm(p), torch.norm(g)
            if not (p.ndim == 1 and optimiser.exclude_1d) and p_norm != 0 and g_norm != 0:
                rate = optimiser.eta * p_norm / (g_norm + decay * p_norm + 1e-8)
                if optimiser.clip:
                    rate = torch.clamp(rate / lr, max=1.0)
                g = rate * (g + decay * p)
            velocity = optimiser.state[p].get("momentum_buffer")
            velocity = g.clone() if velocity is None else group["momentum"] * velocity + g
            optimiser.state[p]["momentum_buffer"] = velocity
            p.sub_(lr * velocity)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=1, eps=1e-8).mean()
