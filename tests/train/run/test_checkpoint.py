"""Checkpoints: everything comes back, and nothing that does not belong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adios_zoo.train.data.feed import open_feed
from adios_zoo.train.data.plan import Plan
from adios_zoo.train.processes import Processes
from adios_zoo.train.report.progress import Progress
from adios_zoo.train.run.checkpoint import load_checkpoint, save_checkpoint
from adios_zoo.train.run.trainer import Trainer
from safetensors import safe_open
from safetensors.torch import save_file

from adios_zoo.errors import IntegrityError
from tests.train.small import small_recipe, write_images


@pytest.fixture
def trainers(tmp_path: Path) -> list[Trainer]:
    """One after a step, and a new one."""
    recipe = small_recipe()
    feed = open_feed(write_images(tmp_path / "data.parquet"), recipe)
    plan = Plan(recipe, feed.count, Processes())
    found = [Trainer(plan, classes=0) for _ in range(2)]
    found[0].step(0, feed.batches(plan, first=0, workers=0))
    return found


def changed(path: Path, **tensors: torch.Tensor) -> None:
    with safe_open(path, "pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file({**held, **tensors}, path, metadata)


def test_networks_velocities_and_progress_come_back(tmp_path: Path, trainers: list[Trainer]) -> None:
    path, (old, new) = tmp_path / "checkpoint.safetensors", trainers
    save_checkpoint(path, old.game, old.optimisers, Progress(step=1, code=["a"]), {})
    assert load_checkpoint(path, new.game, new.optimisers) == Progress(step=1, code=["a"])
    for name, value in old.game.state_dict().items():
        assert torch.equal(new.game.state_dict()[name], value)
    for label, optimiser in old.optimisers.items():
        pairs = list(zip(old.game.parameters(), new.game.parameters(), strict=True))
        moved = [(optimiser.state[a], new.optimisers[label].state[b]) for a, b in pairs if a in optimiser.state]
        assert moved
        assert all(torch.equal(a["momentum_buffer"], b["momentum_buffer"]) for a, b in moved)


@pytest.mark.parametrize(
    "name",
    [
        "stranger.weight",
        "game.encoder.stranger",
        "encoder_optimiser.momentum_buffer.stranger",
        "masker_optimiser.momentum_buffer.masker.head.bias",
    ],
)
def test_what_does_not_belong_is_refused(tmp_path: Path, trainers: list[Trainer], name: str) -> None:
    path, (old, new) = tmp_path / "checkpoint.safetensors", trainers
    save_checkpoint(path, old.game, old.optimisers, Progress(), {})
    changed(path, **{name: torch.zeros(99)})
    with pytest.raises(IntegrityError):
        load_checkpoint(path, new.game, new.optimisers)
