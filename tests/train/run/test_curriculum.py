"""The masker's curriculum, fills, images left whole and random masks in the game and in whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adios_zoo.train.game.game import Game
from adios_zoo.train.game.penalties import areas, sparsity
from adios_zoo.train.recipe.settings import GameSettings, MaskerSettings
from adios_zoo.train.run.pretraining import pretrain
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import adios_zoo
from adios_zoo.errors import ConfigError
from adios_zoo.models.masker import Masker
from tests.reference import tiny_encoder
from tests.train.small import small_recipe, write_images


def a_game(**settings: object) -> Game:
    torch.manual_seed(0)
    rules = GameSettings(alpha_sparsity=0.5, projector_hidden=12, projector_output=7, **settings)  # type: ignore[arg-type]
    return Game(tiny_encoder(), Masker(32, 3, 8, "gn", 4), rules, features=32).double().train()


def a_batch() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {v: torch.randn(6, 3, 32, 32, dtype=torch.float64, generator=generator) for v in (1, 2)}


def plain_loss(game: Game, x: dict[int, Tensor], masks: Tensor, fill: Tensor) -> Tensor:
    """SimCLR over all masks, in one graph."""
    total = torch.zeros((), dtype=torch.float64)
    for k in range(masks.shape[1]):
        m = masks[:, k : k + 1]
        z = torch.cat([game.projector(game.encoder(v)) for v in (x[1], x[2] * (1 - m) + fill * m)])
        z = F.normalize(z, dim=1)
        logits = (z @ z.T / game.settings.temperature).masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
        total = total + F.cross_entropy(logits, torch.arange(12).roll(6))
    return total


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_the_masker_turn_with_factor_fill_and_whole_images(factor: float, fill: str) -> None:
    game, slow, x = a_game(fill=fill), a_game(fill=fill), a_batch()
    whole = torch.tensor([True, False, False, True, False, False])
    masks = game.masks(x)
    turn = game.encoder_turn(x, masks, None, whole=whole)
    answer = game.masker_turn(x, masks, None, turn.targets, whole=whole, loss_factor=factor)

    theirs = slow.masks(x)[2]
    hole = x[2].mean(dim=(2, 3), keepdim=True) if fill == "mean" else torch.zeros_like(x[2])
    loss = plain_loss(slow, x, theirs * ~whole[:, None, None, None], hole)
    objective = factor * loss - 0.5 * sparsity([areas(theirs)])
    (-objective).backward()
    assert float(turn.loss) == pytest.approx(float(loss))
    assert float(answer.objective) == pytest.approx(float(objective))
    for p, q in zip(game.masker.parameters(), slow.masker.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-9)


def test_the_factor_goes_in_straight_lines() -> None:
    settings = MaskerSettings(loss_factor={10: 0.0, 0: -1.0, 20: 1.0})
    assert [settings.loss_factor_in(e) for e in (0, 5, 10, 12.5, 20, 99)] == [-1, -0.5, 0, 0.25, 1, 1]
    assert MaskerSettings().loss_factor_in(3) == 1


def test_turns_of_the_masker() -> None:
    settings = MaskerSettings(every=2, freeze_after=3)
    assert [settings.plays(step, step // 2) for step in range(8)] == [True, False] * 3 + [False, False]
    assert not MaskerSettings(kind="boxes").plays(0, 0)


def records(run: Path) -> list[dict[str, float]]:
    """What the log has of steps, not of looks at the run."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_a_frozen_masker_stays_as_it_is(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    masker = {"image_size": 32, "slots": 3, "base_channels": 8, "freeze_after": 1}
    for epochs in (2, 3):
        optimiser = {"warmup_epochs": 1, "schedule_by": "step"}
        recipe = small_recipe(epochs=epochs, masker=masker, optimiser=optimiser)
        pretrain(recipe, source, tmp_path / str(epochs), show_progress=False)
    assert ["objective" in r for r in records(tmp_path / "3")] == [True, True, False, False]
    weights = [load_file(tmp_path / n / "model" / "masker.safetensors") for n in ("2", "3")]
    encoders = [load_file(tmp_path / n / "model" / "model.safetensors") for n in ("2", "3")]
    assert any(not torch.equal(v, encoders[1][k]) for k, v in encoders[0].items())
    # Its last turn was in epoch 0, at the rates of the warm-up, which do not depend on the length of the run.
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())


@pytest.mark.parametrize("kind", ["none", "patches", "blocks", "boxes"])
@pytest.mark.parametrize(("method", "use"), [("simclr", "all"), ("byol", "one"), ("simsiam", "all")])
def test_runs_without_a_masker(tmp_path: Path, kind: str, method: str, use: str) -> None:
    source = write_images(tmp_path / "data.parquet")
    recipe = small_recipe(
        epochs=2,
        masker={"kind": kind, "slots": 2, "patch": 4},
        game={"method": method, "mask_use": use, "projector_hidden": 16, "projector_output": 8, "fill": "blur"},
    )
    folder = pretrain(recipe, source, tmp_path / "run", show_progress=False)
    assert not (folder / "masker.safetensors").exists()
    model = adios_zoo.load_model(folder)
    assert model.card.masker is None
    assert model(torch.randn(2, 3, 32, 32)).shape[0] == 2
    with pytest.raises(ConfigError, match="has no masker"):
        model.masks(torch.randn(1, 3, 32, 32))
    area = [v for k, v in records(tmp_path / "run")[0].items() if k.startswith("area_")]
    assert len(area) == (2 if use == "all" and kind != "none" else 1)
    assert area == [0] if kind == "none" else all(0.1 < a < 0.35 for a in area)


def test_resumed_without_a_masker(tmp_path: Path) -> None:
    source = write_images(tmp_path / "data.parquet")
    recipe = small_recipe(epochs=1, masker={"kind": "patches"}, game={"projector_hidden": 16, "clean_share": 0.3})
    folder = pretrain(recipe, source, tmp_path / "run", show_progress=False)
    assert pretrain(recipe, source, tmp_path / "run", resume=True, show_progress=False) == folder
