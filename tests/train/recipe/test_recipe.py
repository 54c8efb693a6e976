"""Recipes: overrides, and every mistake in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adios_zoo.train.recipe.files import recipe_names, recipe_table
from adios_zoo.train.recipe.recipe import parse_recipe, read_recipe

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
        ({"epochs": 0}, "epochs must be above 0, not 0"),
        ({"batch_size": 1}, "batch_size"),
        ({"masker": {"every": 0}}, "masker.every"),
        ({"epochs": True}, "whole number"),
        ({"mean": [1, 2]}, "a list of 3"),
        ({"view1": 3}, "a mapping"),
        ({"masker": {"image_size": 60}}, "image_size 60.*did you mean 64"),
        ({"masker": {"blocks": 7}}, "4, 5 or 6 blocks, not 7"),
        ({"masker": {"base_channels": 12}}, "multiples of 8, not 12"),
        ({"masker": {"slots": 1}}, "masker.slots must be from 2 to 64"),
        ({"masker": {"kind": "patches", "patch": 99}}, "masker.patch 99 makes 1 patches of a view of 64 pixels"),
        ({"masker": {"kind": "patches", "patch": 32}, "sizes": {1: 32}}, "makes 1 patches of a view of 32 pixels"),
        ({"epochs": 25, "optimiser": {"ends_early": 10}}, "set optimiser.ends_early=0"),
        ({"watch": {"patience": 0}}, "watch.patience must be above 0"),
        ({"masker": {"kind": "boxes", "freeze_after": 3}}, "masker.freeze_after belongs to masker.kind=learned"),
        ({"masker": {"ratio": 1.0}}, "masker.ratio must be above 0 and below 1, not 1.0"),
        ({"masker": {"loss_factor": {200: 1}}}, "names epoch 200"),
        ({"image_size": 0}, "image_size must be from 1 to 4096 pixels, not 0"),
        ({"game": {"terms": ["both"]}}, "belong to game.method=simsiam"),
        ({"game": {"temperature": 0}}, "game.temperature must be above 0"),
        ({"game": {"clean_share": 1.0}}, "game.clean_share must be from 0 to below 1"),
        ({"view1": {"flip": 1.5}}, "view1.flip must be from 0 to 1, not 1.5"),
        ({"view2": {"min_scale": 0.9, "max_scale": 0.5}}, "view2.min_scale must be at most max_scale, 0.5, not 0.9"),
        ({"view2": {"blur_sigma": [2, 1]}}, "blur_sigma"),
        ({"epochs": 9}, "optimiser.warmup_epochs must be at most epochs, 9, not 10"),
        ({"sizes": {100: 32}}, "sizes names epoch 100"),
        ({"optimiser": {"lr": float("nan")}}, "optimiser.lr must be above 0, not nan"),
        ({"encoder": {"architecture": "resnet81"}}, "did you mean resnet18"),
        ({"encoder": {"architecture": "vit_tiny_patch16_224"}}, "set encoder.model_args={img_size: 64}"),
        (
            {
                "encoder": {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 72}},
                "image_size": 72,
            },
            "multiple of the patch .* 16, not 72; did you mean 64",
        ),
        (
            {"encoder": {"architecture": "vit_tiny_patch16_224"}, "image_size": 100},
            "multiple of the patch .* 16, not 100; did you mean 96",
        ),
        (
            {"encoder": {"architecture": "vit_tiny_patch16_224", "model_args": {"patch_size": 8}}},
            "set encoder.model_args={patch_size: 8, img_size: 64}",
        ),
    ],
)
def test_impossible_values(data: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_recipe(data, what="r")


def test_unknown_recipes_are_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean resnet18_tin200"):
        read_recipe("resnet18_tin200_gpu")
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


def test_mistakes_of_every_kind_come_at_once() -> None:
    settings = ["epoch=3", "game.method=moco", "batch_size=1", "view1.flip=2", "nonsense", "seed=[", "epochs.x=1"]
    with pytest.raises(ConfigError) as caught:
        read_recipe("resnet18_tin200_cpu", settings)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(settings)
    for word in ("epoch is unknown", "game.method", "batch_size", "view1.flip", "'nonsense'", "seed", "epochs.x"):
        assert sum(word in line for line in lines) == 1, word


def test_what_follows_from_a_mistake_is_not_a_second_one() -> None:
    with pytest.raises(ConfigError) as caught:
        read_recipe("resnet18_tin200_cpu", ["epochs=many", "optimiser.warmup_epochs=150", "sizes={120: 32}"])
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_may_be_written_as_in_json() -> None:
    recipe = read_recipe("resnet18_tin200_cpu", ["optimiser.lr=1e-3", "optimiser.weight_decay=5E-2"])
    assert (recipe.optimiser.lr, recipe.optimiser.weight_decay) == (1e-3, 5e-2)


def test_a_setting_of_one_view_leaves_the_other_alone() -> None:
    recipe = read_recipe("resnet18_tin200", ["view1.flip=0.25"])
    assert (recipe.view1.flip, recipe.view2.flip) == (0.25, 0.5)


def test_what_a_run_saves_is_a_recipe_again(tmp_path: Path) -> None:
    recipe = read_recipe("resnet18_stl10_byol", ["masker.loss_factor={0: -1, 50: 1}", "sizes={0: 64, 9: 96}"])
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    assert read_recipe(str(path)) == recipe


def test_the_table_has_a_sentence_for_every_recipe() -> None:
    lines = recipe_table().splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(line.endswith(".") and len(line.split()) > 3 for line in lines)
