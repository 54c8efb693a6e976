"""The authors' fifteen recipes hold their numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from adios_zoo.train.recipe.files import recipe_names
from adios_zoo.train.recipe.recipe import read_recipe
from adios_zoo.train.recipe.settings import Recipe

from adios_zoo.models.masker import default_blocks
from tests.conftest import OWN_GOLDEN
from tests.reference import METHOD, TERMS

RECIPES: dict[str, dict[str, Any]] = json.loads((OWN_GOLDEN / "recipes.json").read_text())["recipes"]
# What their recipes do not name has the values of their command line.
ARGS: dict[str, dict[str, Any]] = json.loads((OWN_GOLDEN / "official_keys" / "args_example.json").read_text())
SETS = {"imagenet100": ("in100", 224), "imagenet100s": ("in100s", 96), "stl10": ("stl10", 96)}
ARCHITECTURES = {"resnet18": "resnet18", "vit_tiny": "vit_tiny_patch16_224"}


def method_of(settings: dict[str, Any]) -> tuple[str, str]:
    match = METHOD.fullmatch(settings["method"])
    assert match
    return match[1], "one" if match[2] else "all"


def name_of(settings: dict[str, Any]) -> str:
    return f"{settings['encoder']}_{SETS[settings['dataset']][0]}_{method_of(settings)[0]}"


def translated(settings: dict[str, Any]) -> dict[str, Any]:
    """A recipe of theirs as ours reads it: dotted key to value."""
    s = settings
    method, use = method_of(s)
    short, size = SETS[s["dataset"]]
    view = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2} | {
        k: s[k] for k in ("brightness", "contrast", "saturation", "hue") if k in s
    }
    view |= {"min_scale": 0.08, "max_scale": 1.0, "flip": 0.5, "jitter": 0.8, "grey": 0.2}
    view |= {"blur": 0.5, "blur_sigma": (0.1, 2.0), "solarise": 0.0}
    found = {
        "set": short,
        "epochs": s["max_epochs"],
        "batch_size": s["batch_size"],
        "accumulate": 1,
        "image_size": size,
        "sizes": {},
        "probe": True,
        "encoder.architecture": ARCHITECTURES[s["encoder"]],
        "encoder.model_args": {"img_size": size} if s["encoder"] == "vit_tiny" else {},
        "masker.kind": "learned",
        "masker.image_size": size,
        "masker.slots": s["N"],
        "masker.base_channels": s["mask_fbase"],
        "masker.norm": s["unet_norm"],
        "masker.blocks": s["num_blocks"] if method == "simsiam" else default_blocks(size),
        "masker.every": 1,
        "game.method": method,
        "game.mask_use": use,
        "game.alpha_sparsity": s["alpha_sparsity"],
        "game.alpha_entropy": s["alpha_entropy"],
        "game.bn_statistics": "all",
        "game.fill": "zero",
        "game.projector_hidden": s["proj_hidden_dim"],
        "game.projector_output": s["output_dim"],
        "optimiser.lr": s["lr"],
        "optimiser.masker_lr": s["mask_lr"],
        "optimiser.probe_lr": s.get("classifier_lr", 0.1),
        "optimiser.weight_decay": s["weight_decay"],
        "optimiser.momentum": 0.9,
        "optimiser.eta": 0.02,
        "optimiser.clip": True,
        "optimiser.exclude_1d": True,
        "optimiser.warmup_epochs": 10,
        "optimiser.warmup_start_lr": 0.003,
        "optimiser.min_lr": 0.0,
        "optimiser.schedule_by": "epoch",
        "optimiser.ends_early": 10 if method == "byol" else 0,
        "optimiser.byol_tau": (0.99, 1.0),
        "std": (0.247, 0.243, 0.261) if short == "stl10" else (0.228, 0.224, 0.225),
        "mean": (0.4914, 0.4823, 0.4466) if short == "stl10" else (0.485, 0.456, 0.406),
    }
    if method == "simclr":
        found["game.temperature"] = s.get("temperature", 0.1)
    else:
        found["game.predictor_hidden"] = s["pred_hidden_dim"]
    if method == "simsiam":
        found["game.terms"] = {term for term, flag in TERMS.items() if s[flag]}
    return found | {f"view{v}.{k}": value for v in (1, 2) for k, value in view.items()}


def setting(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return set(value) if key == "game.terms" else value


@pytest.mark.parametrize("settings", RECIPES.values(), ids=list(RECIPES))
def test_every_number(settings: dict[str, Any]) -> None:
    recipe = read_recipe(name_of(settings))
    expected = translated(settings)
    assert {key: setting(recipe, key) for key in expected} == expected


def test_all_fifteen_are_there_each_once() -> None:
    names = {name_of(settings) for settings in RECIPES.values()}
    assert len(names) == len(RECIPES) == 15
    assert names <= set(recipe_names())


@pytest.mark.parametrize("args", ARGS.values(), ids=list(ARGS))
def test_the_released_runs_took_these_settings(args: dict[str, Any]) -> None:
    recipe, views = read_recipe(name_of(args)), args["transform_kwargs"]
    pairs = {
        "epochs": args["max_epochs"],
        "image_size": args["img_size"],
        "std": tuple(args["std"]),
        "optimiser.warmup_epochs": args["warmup_epochs"],
        "optimiser.warmup_start_lr": args["warmup_start_lr"],
        "optimiser.min_lr": args["min_lr"],
        "optimiser.eta": args["eta_lars"],
        "optimiser.momentum": args["extra_optimizer_args"]["momentum"],
        "optimiser.ends_early": args["train_mask_epoch"],
        "view1.min_scale": views["min_scale"],
        "view2.blur": views["gaussian_prob"],
        "view2.solarise": views["solarization_prob"],
        "view2.hue": views["hue"],
        "view1.saturation": views["saturation"],
    }
    assert {key: setting(recipe, key) for key in pairs} == pairs
