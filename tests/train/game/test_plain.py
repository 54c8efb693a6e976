"""What the plain game costs: how often it encodes, against the engine."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.game.game import Game
from adios_zoo.train.game.plain import PlainGame
from adios_zoo.train.recipe.settings import GameSettings

from adios_zoo.models.masker import Masker
from tests.reference import tiny_encoder


def passes(game: Game, play: str, slots: int) -> int:
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    game.encoder.register_forward_hook(note)
    x = {v: torch.randn(4, 3, 32, 32) for v in (1, 2)}
    labels = torch.tensor([0, 1, 2, 0])
    index = torch.randint(slots, (4,)) if game.settings.mask_use == "one" else None
    if play == "plain":
        plain = PlainGame(game)
        plain.encoder_turn(x, index, labels)
        plain.masker_turn(x, index)
    else:
        masks = game.masks(x)
        turn = game.encoder_turn(x, masks, index, labels)
        game.masker_turn(x, masks, index, turn.targets)
    return count


@pytest.mark.parametrize(
    ("method", "use", "slots", "plain", "engine"),
    [
        ("simclr", "all", 6, 26, 15),
        ("byol", "all", 4, 18, 11),
        ("simsiam", "all", 6, 50, 28),
        ("simclr", "one", 4, 6, 5),
        ("simsiam", "one", 3, 10, 8),
    ],
)
def test_how_often_the_encoder_runs(method: str, use: str, slots: int, plain: int, engine: int) -> None:
    settings = GameSettings(method=method, mask_use=use, projector_hidden=8, projector_output=4, predictor_hidden=4)
    for play, expected in (("plain", plain), ("engine", engine)):
        game = Game(tiny_encoder(), Masker(32, slots, 8, "gn", 4), settings, features=32, classes=3).train()
        assert passes(game, play, slots) == expected
