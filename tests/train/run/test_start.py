"""Runs that start from a model's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adios_zoo.train.data.plan import Plan
from adios_zoo.train.processes import Processes
from adios_zoo.train.recipe.settings import Recipe
from adios_zoo.train.run.pretraining import pretrain
from adios_zoo.train.run.trainer import Trainer

from adios_zoo import load_model
from adios_zoo.errors import ConfigError, UnknownModelError
from tests.train.small import small_recipe, write_images

QUIET = {"pictures_every": 0, "knn_every": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a run."""
    folder = tmp_path_factory.mktemp("start")
    recipe = small_recipe(epochs=1, optimiser={"warmup_epochs": 0}, observe=QUIET)
    return pretrain(recipe, write_images(folder / "a.parquet", 16), folder / "run", device="cpu", show_progress=False)


def trainer(recipe: Recipe) -> Trainer:
    return Trainer(Plan(recipe, 16, Processes()), classes=0)


def test_encoder_and_masker_are_the_models(trained: Path) -> None:
    model = load_model(trained)
    game = trainer(small_recipe(seed=1, start=str(trained))).game
    for network, other in ((game.encoder, model.encoder), (game.masker, model.masker)):
        assert network is not None
        assert other is not None
        for name, value in other.state_dict().items():
            assert torch.equal(network.state_dict()[name], value), name


def test_the_card_says_where_a_run_started(trained: Path, tmp_path: Path) -> None:
    recipe = small_recipe(epochs=1, seed=1, start=str(trained), optimiser={"warmup_epochs": 0}, observe=QUIET)
    source = write_images(tmp_path / "a.parquet", 16)
    card = load_model(pretrain(recipe, source, tmp_path / "run", device="cpu", show_progress=False)).card
    before = load_model(trained).card
    assert card.training["start"] == {"model": before.name, "sha256": before.files["model.safetensors"].sha256}
    assert "start" not in before.training


def test_a_model_without_a_masker_leaves_the_masker_as_drawn(trained: Path, tmp_path: Path) -> None:
    model = load_model(trained)
    model.card, model.masker = replace(model.card, masker=None), None
    model.save_pretrained(tmp_path / "bare")
    found = trainer(small_recipe(seed=1, start=str(tmp_path / "bare"))).game
    drawn = trainer(small_recipe(seed=1)).game
    assert found.masker is not None
    assert drawn.masker is not None
    for name, value in drawn.masker.state_dict().items():
        assert torch.equal(found.masker.state_dict()[name], value), name
    assert not torch.equal(next(found.encoder.parameters()), next(drawn.encoder.parameters()))


def test_other_networks_are_refused(trained: Path) -> None:
    with pytest.raises(ConfigError, match="its encoder, test_resnet, is another"):
        trainer(small_recipe(start=str(trained), encoder={"architecture": "resnet10t"}))
    with pytest.raises(ConfigError, match=r"its masker, .*slots=3.* is another"):
        trainer(small_recipe(start=str(trained), masker={"image_size": 32, "slots": 4, "base_channels": 8}))
    with pytest.raises(UnknownModelError):
        trainer(small_recipe(start="no_such_model"))
