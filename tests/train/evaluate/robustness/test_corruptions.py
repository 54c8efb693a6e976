"""Accuracy on corrupted images, made here or read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from adios_zoo.train.evaluate.robustness.corruptions import GROUPS, corrupt, corruption_errors, evaluate_corruptions
from adios_zoo.train.evaluate.task import Task
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.sources.open import open_source
from tests.small_models import saved_model
from tests.train.small import save_in_class_folders, write_images


def noise(count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def task(folder: Path, **changes: object) -> Task:
    source = write_images(folder / "a.parquet", count=24, side=32)
    model = str(saved_model(folder / "m"))
    return Task(**{"train": source, "test": source, "model": model, "test_images": 4, **changes})


@pytest.mark.parametrize("name", [name for names in GROUPS.values() for name in names])
def test_every_corruption_follows_from_the_seed_and_the_number_of_the_image(name: str) -> None:
    pixels = noise()
    before = pixels.copy()
    np.random.seed(7)
    found = corrupt(pixels, 5, (name, 3), seed=1)
    drawn = np.random.random()
    np.random.seed(7)
    assert drawn == np.random.random(), "numpy's own random numbers were used up"
    assert found.shape == pixels.shape
    assert found.dtype == np.uint8
    assert (pixels == before).all()
    assert (found != pixels).any()
    assert (found == corrupt(pixels, 5, (name, 3), seed=1)).all()
    assert (found[1:] == corrupt(pixels[1:], 6, (name, 3), seed=1)).all()


def test_noise_grows_with_the_severity_and_changes_with_the_seed() -> None:
    pixels = noise()
    away = [
        float(np.abs(corrupt(pixels, 0, ("gaussian_noise", severity), seed=0).astype(int) - pixels).mean())
        for severity in (1, 3, 5)
    ]
    assert away == sorted(away)
    a, b = (corrupt(pixels, 0, ("gaussian_noise", 1), seed=seed) for seed in (0, 1))
    assert (a != b).any()


def test_accuracies_of_a_model_and_a_baseline(tmp_path: Path) -> None:
    given = task(tmp_path)
    settings = {"corruptions": ["contrast", "noise"], "severities": [5, 1]}
    found = evaluate_corruptions(given, baseline=given.model, **settings)
    assert list(found["accuracy"]) == [*GROUPS["noise"], "contrast"]
    assert list(found["accuracy"]["contrast"]) == ["1", "5"]
    values = [value for row in found["accuracy"].values() for value in row.values()]
    assert found["mean"] == pytest.approx(sum(values) / len(values))
    assert found["baseline"]["accuracy"] == found["accuracy"]
    ratios = [*found["error"]["ce"].values(), *found["error"]["relative_ce"].values()]
    assert set(ratios) <= {100.0, None}
    assert 100.0 in ratios


def test_other_processes_corrupt_alike(tmp_path: Path) -> None:
    given = task(tmp_path, test_images=3)
    settings = {"corruptions": ["shot_noise"], "severities": [2, 4]}
    assert evaluate_corruptions(given, workers=1, **settings) == evaluate_corruptions(given, **settings)


def test_errors_are_those_of_the_definition() -> None:
    model = {"clean": 80.0, "accuracy": {"fog": {"1": 70.0, "2": 50.0}, "snow": {"1": 80.0, "2": 80.0}}}
    other = {"clean": 90.0, "accuracy": {"fog": {"1": 60.0, "2": 40.0}, "snow": {"1": 90.0, "2": 90.0}}}
    assert corruption_errors(model, other) == {
        "ce": {"fog": pytest.approx(80), "snow": pytest.approx(200)},
        "relative_ce": {"fog": pytest.approx(50), "snow": None},
        "mean_ce": pytest.approx(140),
        "mean_relative_ce": pytest.approx(50),
    }


def test_a_made_set_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In ImageNet-C's layout; here fog at severity 2 does nothing, and at 3 all is black."""
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    source = save_in_class_folders(open_source(task(tmp_path).test), tmp_path / "clean")
    save_in_class_folders(open_source(source), tmp_path / "made/fog/2")
    save_in_class_folders(open_source(source), tmp_path / "made/fog/3", lambda image: Image.new("RGB", image.size))
    given = Task(train=source, test=source, model=str(tmp_path / "m"))
    found = evaluate_corruptions(given, made=tmp_path / "made")
    assert found["accuracy"] == {"fog": {"2": found["clean"], "3": pytest.approx(100 / 3)}}
    with pytest.raises(BackendError, match="pip install"):
        evaluate_corruptions(given)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"corruptions": ["rain"]}, ConfigError),
        ({"severities": [0]}, ConfigError),
        ({"made": Path("nowhere")}, DataError),
    ],
)
def test_mistakes(tmp_path: Path, wrong: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        evaluate_corruptions(task(tmp_path), **wrong)


def test_images_that_are_too_small(tmp_path: Path) -> None:
    small = str(saved_model(tmp_path / "small", input_size=16, masker=None))
    with pytest.raises(ConfigError, match="32 pixels"):
        evaluate_corruptions(task(tmp_path, model=small))
