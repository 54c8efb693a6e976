"""The game against the plain one in float64: every pass repeated, one graph for all masks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from adios_zoo.train.game.game import Game
from adios_zoo.train.game.optim import LARS
from adios_zoo.train.game.plain import PlainGame
from adios_zoo.train.recipe.settings import GameSettings
from torch import Tensor, nn

from adios_zoo.models.masker import Masker
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


def gradients(networks: list[nn.Module | None]) -> list[Tensor]:
    return [p.grad for n in networks if n is not None for p in n.parameters() if p.grad is not None]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}-{'+'.join(c[2]) or 'plain'}")
@pytest.mark.parametrize("mode", ["all", "clean"])
@pytest.mark.parametrize("keep_graph", [True, False])
def test_turns(case: tuple[str, str, tuple[str, ...], int, str], mode: str, keep_graph: bool) -> None:
    torch.manual_seed(1)
    x = {v: torch.randn(6, 3, 32, 32, dtype=torch.float64) for v in (1, 2)}
    labels = torch.tensor([0, 1, 2, -1, 1, 0])
    index = torch.randint(case[3], (6,)) if case[1] == "one" else None

    game, slow = new_game(*case), new_game(*case)
    game.statistics.mode = mode
    with torch.set_grad_enabled(keep_graph):
        masks = game.masks(x)
    turn = game.encoder_turn(x, masks, index, labels)
    plain = PlainGame(slow)
    loss, probe = plain.encoder_turn(x, index, labels)
    assert turn.probe is not None
    close(turn.loss, loss)
    close(turn.probe, probe)
    for networks in (lambda g: [g.encoder, g.projector, g.predictor], lambda g: [g.classifier]):
        same(networks, game, slow)

    answer = game.masker_turn(x, masks, index, turn.targets)
    objective = plain.masker_turn(x, index)
    close(answer.objective, objective)
    same(lambda g: [g.masker], game, slow)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}-{'+'.join(c[2]) or 'plain'}")
def test_three_steps(case: tuple[str, str, tuple[str, ...], int, str]) -> None:
    game, slow = new_game(*case), new_game(*case)
    fast_optimisers, slow_optimisers = optimisers(game), optimisers(slow)
    plain = PlainGame(slow)
    torch.manual_seed(2)
    for tau in (0.9, 0.95, 1.0):
        x = {v: torch.randn(6, 3, 32, 32, dtype=torch.float64) for v in (1, 2)}
        labels = torch.tensor([0, 1, 2, -1, 1, 0])
        drawn = [torch.randint(case[3], (6,)) if case[1] == "one" else None for _ in range(2)]
        plain.step(x, labels, (drawn[0], drawn[1]), slow_optimisers, tau)
        for optimiser in fast_optimisers:
            optimiser.zero_grad()
        masks = game.masks(x)
        turn = game.encoder_turn(x, masks, drawn[0], labels)
        fast_optimisers[0].step()
        game.masker_turn(x, masks, drawn[1], turn.targets)
        fast_optimisers[1].step()
        game.move_momentum(tau)
    expected = slow.state_dict()
    for name, found in game.state_dict().items():
        # The running statistics too: the replayed passes are counted as if they had been made.
        assert (found - expected[name]).abs().max() <= 1e-7 * expected[name].abs().max() + 1e-9, name


def optimisers(game: Game) -> tuple[LARS, LARS]:
    masker = list(game.masker.parameters())
    encoder = [p for p in game.parameters() if p.requires_grad and not any(p is q for q in masker)]
    return LARS(encoder, lr=0.1, weight_decay=1e-3), LARS(masker, lr=0.05, weight_decay=1e-3)


def close(a: Tensor, b: Tensor) -> None:
    assert float(a.detach()) == pytest.approx(float(b.detach()), rel=1e-9, abs=1e-10)


def same(networks: Callable[[Game], list[nn.Module | None]], game: Game, slow: Game) -> None:
    found, expected = gradients(networks(game)), gradients(networks(slow))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-8 * b.abs().max() + 1e-10
