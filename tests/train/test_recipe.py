"""Recipes: overrides, and every mistake in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adios_zoo.train.recipe import parse_recipe, read_recipe, recipe_names

from adios_zoo.errors import ConfigError


def test_overrides() -> None:
    recipe = read_recipe("resnet18_tin200_cpu", ["optimiser.lr=0.25", "sizes={0: 48}", "game.method=byol"])
    assert recipe.optimiser.lr == 0.25
    assert recipe.game.method == "byol"
    assert [recipe.size_in(e) for e in (0, 3)] == [48, 48]


def test_sizes_change_at_their_epochs() -> None:
    recipe = parse_recipe({"image_size": 64, "sizes": {2: 32, 5: 48}}, what="r")
    assert [recipe.size_in(e) for e in (0, 1, 2, 4, 5, 9)] == [64, 64, 32, 32, 48, 48]


def test_three_mistakes_are_three_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("epoch: 3\ngame: {method: moco}\noptimiser: {lr: fast}\n")
    with pytest.raises(ConfigError) as caught:
        read_recipe(str(path))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "epoch is unknown; did you mean epochs?" in lines[0]
    assert "game.method must be one of simclr, byol, simsiam, not 'moco'" in lines[1]
    assert "optimiser.lr must be a number" in lines[2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"epochs": 0}, "epochs must be positive"),
        ({"batch_size": 1}, "batch_size"),
        ({"masker": {"every": 0}}, "masker.every"),
        ({"epochs": True}, "whole number"),
        ({"mean": [1, 2]}, "a list of 3"),
        ({"view1": 3}, "a mapping"),
    ],
)
def test_impossible_values(data: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_recipe(data, what="r")


def test_unknown_recipes_are_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean resnet18_tin200_cpu"):
        read_recipe("resnet18_tin200")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe("nowhere.yaml")
    with pytest.raises(ConfigError, match="not YAML"):
        read_recipe(recipe_names()[0], ["epochs=["])
    with pytest.raises(ConfigError, match="key=value"):
        read_recipe(recipe_names()[0], ["epochs"])


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_survive_json(name: str) -> None:
    recipe = read_recipe(name)
    assert parse_recipe(json.loads(json.dumps(recipe.to_dict())), what=name) == recipe
