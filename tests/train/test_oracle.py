"""The game against a plain, slow oracle in float64: every pass repeated, one graph for all masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from adios_zoo.train.game import Game, GameSettings
from torch import Tensor, nn
from torch.nn import functional as F

from adios_zoo.masker import Masker
from tests.reference import tiny_encoder

CASES = [
    ("simclr", "all", (), 6, "in"),
    ("simclr", "one", (), 3, "gn"),
    ("byol", "all", (), 2, "no"),
    ("byol", "one", (), 5, "gn"),
    ("simsiam", "all", (), 3, "gn"),
    ("simsiam", "all", ("both",), 2, "in"),
    ("simsiam", "one", ("no_mask", "symmetry", "both"), 4, "gn"),
    ("simsiam", "one", ("no_mask",), 3, "no"),
]


def new_game(method: str, use: str, terms: tuple[str, ...], slots: int, norm: str) -> Game:
    torch.manual_seed(0)
    settings = GameSettings(
        method=method,
        mask_use=use,
        terms=terms,
        temperature=0.37,
        alpha_sparsity=0.61,
        alpha_entropy=0.23,
        projector_hidden=12,
        projector_output=7,
        predictor_hidden=5,
    )
    game = Game(tiny_encoder(), Masker(32, slots, 8, norm, 4), settings, features=32, classes=3).double().train()
    for name, p in game.named_parameters():
        if name.startswith("momentum"):
            p.data += 0.1 * torch.randn_like(p)
    return game


class Plain:
    """The formulas as they stand in the papers, without any sharing."""

    def __init__(self, game: Game, x: dict[int, Tensor], index: Tensor | None) -> None:
        self.g, self.x, self.index = game, x, index
        self.s = game.settings

    def z(self, x: Tensor) -> Tensor:
        return self.g.projector(self.g.encoder(x))

    def p(self, x: Tensor) -> Tensor:
        return self.g.predictor(self.z(x))

    def t(self, x: Tensor) -> Tensor:
        return self.g.momentum_projector(self.g.momentum_encoder(x)).detach()

    def loss(self, masks: dict[int, Tensor]) -> Tensor:
        slots = next(iter(masks.values())).shape[1]
        if self.index is None:
            chosen = [{v: m[:, k] for v, m in masks.items()} for k in range(slots)]
        else:
            rows = range(len(self.index))
            chosen = [{v: torch.stack([m[b, self.index[b]] for b in rows]) for v, m in masks.items()}]
        return sum((self.one(c) for c in chosen), torch.zeros((), dtype=torch.float64))

    def one(self, mask: dict[int, Tensor]) -> Tensor:
        x1, x2 = self.x[1], self.x[2]
        m2 = x2 * (1 - mask[2][:, None])
        if self.s.method == "simclr":
            return self.contrast(self.z(x1), self.z(m2))
        if self.s.method == "byol":
            return 4 - 2 * self.cos(self.p(x1), self.t(m2)) - 2 * self.cos(self.p(m2), self.t(x1))
        m1 = x1 * (1 - mask[1][:, None])
        pairs: list[tuple[Tensor, Tensor]] = [(m1, x2), (m2, x1)]
        pairs += [(x2, m1), (x1, m2)] if "symmetry" in self.s.terms else []
        pairs += [(x1, x2), (x2, x1)] if "no_mask" in self.s.terms else []
        pairs += [(m1, m2), (m2, m1)] if "both" in self.s.terms else []
        return sum((-self.cos(self.p(a), self.z(b).detach()) for a, b in pairs), torch.zeros(())) / len(pairs)

    def contrast(self, a: Tensor, b: Tensor) -> Tensor:
        rows = F.normalize(torch.cat([a, b]), dim=1)
        total = torch.zeros((), dtype=torch.float64)
        for i in range(len(rows)):
            similarity = (rows @ rows[i]) / self.s.temperature
            positive = similarity[(i + len(a)) % len(rows)]
            others = torch.cat([similarity[:i], similarity[i + 1 :]])
            total = total + torch.logsumexp(others, 0) - positive
        return total / len(rows)

    @staticmethod
    def cos(a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(a, b, dim=1, eps=1e-8).mean()

    def objective(self, masks: dict[int, Tensor]) -> Tensor:
        sizes = [m.mean(dim=(2, 3)) for m in masks.values()]
        spread = sum((1 / (torch.sin(math.pi * a) + 1e-10)).mean(0).sum() for a in sizes)
        joint = [torch.cat(sizes, dim=1)] if self.s.mask_use == "all" else sizes
        entropy = sum((a.softmax(1) * a.log_softmax(1)).sum() for a in joint)
        return self.loss(masks) - self.s.alpha_sparsity * spread + self.s.alpha_entropy * entropy


def gradients(networks: list[nn.Module | None]) -> list[Tensor]:
    return [p.grad for n in networks if n is not None for p in n.parameters() if p.grad is not None]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}-{'+'.join(c[2]) or 'plain'}")
@pytest.mark.parametrize("mode", ["all", "clean"])
def test_turns(case: tuple[str, str, tuple[str, ...], int, str], mode: str) -> None:
    torch.manual_seed(1)
    x = {v: torch.randn(6, 3, 32, 32, dtype=torch.float64) for v in (1, 2)}
    labels = torch.tensor([0, 1, 2, -1, 1, 0])
    index = torch.randint(case[3], (6,)) if case[1] == "one" else None

    game, slow = new_game(*case), new_game(*case)
    game.statistics.mode = mode
    masks = game.masks(x)
    turn = game.encoder_turn(x, masks, index, labels)
    plain = Plain(slow, x, index)
    fixed = {v: m.detach() for v, m in slow.masks(x).items()}
    loss = plain.loss(fixed)
    probe = torch.stack(
        [F.cross_entropy(slow.classifier(slow.encoder(x[v]).detach()), labels, ignore_index=-1) for v in (1, 2)]
    ).mean()
    (loss + probe).backward()
    assert turn.probe is not None
    close(turn.loss, loss)
    close(turn.probe, probe)
    for networks in (lambda g: [g.encoder, g.projector, g.predictor], lambda g: [g.classifier]):
        same(networks, game, slow)

    answer = game.masker_turn(x, masks, index, turn.targets)
    for p in [*slow.encoder.parameters(), *slow.projector.parameters()]:
        p.grad = None
    objective = plain.objective(slow.masks(x))
    (-objective).backward()
    close(answer.objective, objective)
    same(lambda g: [g.masker], game, slow)


def close(a: Tensor, b: Tensor) -> None:
    assert float(a.detach()) == pytest.approx(float(b.detach()), rel=1e-9, abs=1e-10)


def same(networks: Callable[[Game], list[nn.Module | None]], game: Game, slow: Game) -> None:
    found, expected = gradients(networks(game)), gradients(networks(slow))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-8 * b.abs().max() + 1e-10
