"""Accuracy as a growing share of the image is hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adios_zoo.train.chance import seed_for
from adios_zoo.train.evaluate.robustness.altered import ProbeClassifier
from adios_zoo.train.evaluate.robustness.occlusion import _Hiding, evaluate_occlusion, occluded
from adios_zoo.train.evaluate.task import Task
from torch import Tensor

from adios_zoo.errors import ConfigError
from tests.small_models import saved_model
from tests.train.small import write_images


def images(count: int = 3, size: int = 16) -> Tensor:
    return torch.full((count, 3, size, size), 200, dtype=torch.uint8)


def hidden(pictures: Tensor) -> Tensor:
    return (pictures != 200).all(dim=1)


@pytest.mark.parametrize("kind", ["patches", "block"])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_each_image_is_hidden(kind: str, share: float) -> None:
    given = images()
    gone = hidden(occluded(given, share, kind=kind)).float().mean(dim=(1, 2))
    assert gone.tolist() == pytest.approx([share] * 3, abs=0.05)
    assert (given == 200).all()


def test_what_is_hidden_shows_the_fill_and_all_else_the_image() -> None:
    found = occluded(images(1), 0.25, kind="block", fill=(1.0, 0.0, 0.2))[0]
    assert found[:, 8, 8].tolist() == [255, 0, 51]
    assert (found[:, 4:12, 4:12] != 200).all()
    assert int((found[0] != 200).sum()) == 64


def test_a_larger_share_hides_more_of_the_same() -> None:
    for kind in ("patches", "block"):
        less, more = (hidden(occluded(images(), share, kind=kind)) for share in (0.3, 0.6))
        assert bool((more | ~less).all())
        assert more.sum() > less.sum()


def test_patches_follow_from_the_seed_and_the_number_of_the_image() -> None:
    whole = hidden(occluded(images(5), 0.5, seed=3))
    assert torch.equal(whole[2:], hidden(occluded(images(3), 0.5, seed=3, first=2)))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, hidden(occluded(images(5), 0.5, seed=4)))


def test_patches_are_squares_of_the_given_size() -> None:
    cells = hidden(occluded(images(), 0.5, patch=4)).unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).float().mean(dim=3)
    assert set(cells.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"share": 1.1}, {"kind": "stripes"}, {"patch": 0}, {"patch": 17}])
def test_impossible_occlusions(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        occluded(images(), **{"share": 0.5, **wrong})


def task(folder: Path, **changes: object) -> Task:
    source = write_images(folder / "a.parquet", count=30, side=32)
    model = str(saved_model(folder / "m"))
    return Task(**{"train": source, "test": source, "model": model, "test_images": 9, **changes})


def test_accuracy_falls_to_that_of_an_empty_image(tmp_path: Path) -> None:
    found = evaluate_occlusion(task(tmp_path), shares=(0.0, 0.5, 1.0))
    assert set(found["accuracy"]) == {"patches", "block", "slots"}
    assert found["clean"] > 80
    for kind, row in found["accuracy"].items():
        assert row["0"] == found["clean"]
        assert row["1"] == pytest.approx(100 / 3)  # all images look alike, and a third has each label
        assert found["drop"][kind]["1"] == pytest.approx(100 * (1 - row["1"] / found["clean"]))
    assert sum(slot["area"] for slot in found["slots"]) == pytest.approx(100)
    assert len(found["slots"]) == 3
    json.dumps(found, allow_nan=False)


def test_occlusion_does_not_depend_on_how_many_images_follow(tmp_path: Path) -> None:
    whole = task(tmp_path, test_images=None)
    found = [evaluate_occlusion(whole, kinds=["patches"], shares=(0.5,), seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0]["patch"] == 4
    assert found[0]["test"]["images"] == 30


def test_slots_are_hidden_from_their_heart(tmp_path: Path) -> None:
    """The hidden part is where the drawn slot has the most weight."""
    given = task(tmp_path)
    hiding = _Hiding(ProbeClassifier(given, seed=0), ["slots"], (0.25,), None, 0)
    pictures = images(2, 32)
    altered = dict(hiding(pictures, 0))
    with torch.inference_mode():
        masks = given.encoder.masks(normalised(given, pictures))
    for number in range(2):
        gone = (altered["slots", 0.25][number] != 200).any(dim=0)
        weights = masks[number, seed_for(0, "slot", number) % 3]
        assert int(gone.sum()) == 256
        assert float(weights[gone].min()) >= float(weights[~gone].max()) - 1e-4


def normalised(given: Task, pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (given.card.mean, given.card.std))
    return (pictures / 255 - mean) / std


def test_without_a_masker_there_are_no_slots(tmp_path: Path) -> None:
    bare = task(tmp_path, model=str(saved_model(tmp_path / "bare", masker=None)))
    assert set(evaluate_occlusion(bare, shares=(0.5,))["accuracy"]) == {"patches", "block"}
    with pytest.raises(ConfigError, match="no masker"):
        evaluate_occlusion(bare, kinds=["slots"])


def test_what_is_named_twice_counts_once(tmp_path: Path) -> None:
    once, twice = (evaluate_occlusion(task(tmp_path), kinds=n * ["block"], shares=n * (0.1,)) for n in (1, 2))
    assert once == twice


@pytest.mark.parametrize("wrong", [{"kinds": ["stripes"]}, {"shares": (1.5,)}, {"patch": 0}])
def test_impossible_settings(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        evaluate_occlusion(task(tmp_path), **wrong)
