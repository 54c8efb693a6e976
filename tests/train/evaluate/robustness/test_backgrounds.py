"""The backgrounds challenge, on a small folder in its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from adios_zoo.train.evaluate.robustness.backgrounds import evaluate_backgrounds
from adios_zoo.train.evaluate.task import Task
from PIL import Image

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.extract_to_file import extract_to_file
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.sources.open import open_source
from tests.small_models import saved_model
from tests.train.small import save_in_class_folders, write_images


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """``mixed_same`` shows the images themselves, ``mixed_rand`` nothing but black."""
    refs = list(open_source(write_images(tmp_path / "a.parquet", count=24)))
    folder = tmp_path / "bg_challenge"
    save_in_class_folders(refs, folder / "original/train")
    for name in ("original", "mixed_same"):
        save_in_class_folders(refs[:12], folder / name / "val")
    save_in_class_folders(refs[:12], folder / "mixed_rand/val", lambda image: Image.new("RGB", image.size))
    saved_model(tmp_path / "m")
    return folder


def task(folder: Path, train: str = "") -> Task:
    return Task(train=train, test="", model=str(folder.parent / "m"))


def test_the_gap_between_backgrounds_of_the_class_and_random_ones(challenge: Path) -> None:
    found = evaluate_backgrounds(task(challenge), challenge)
    assert list(found["accuracy"]) == ["original", "mixed_same", "mixed_rand"]
    assert found["accuracy"]["mixed_same"] == found["accuracy"]["original"] > 80
    assert found["accuracy"]["mixed_rand"] == pytest.approx(100 / 3)
    assert found["bg_gap"] == pytest.approx(found["accuracy"]["mixed_same"] - 100 / 3)
    assert found["train"]["source"] == str(challenge / "original/train")
    assert found["test"]["mixed_rand"]["images"] == 12
    other = evaluate_backgrounds(task(challenge, str(challenge / "mixed_same/val")), challenge)
    assert other["train"]["images"] == 12


def test_without_both_mixtures_there_is_no_gap(challenge: Path) -> None:
    (challenge / "mixed_rand").rename(challenge / "only_fg")
    found = evaluate_backgrounds(task(challenge), challenge)
    assert found["bg_gap"] is None
    assert set(found["accuracy"]) == {"original", "mixed_same", "only_fg"}


def test_classes_must_agree(challenge: Path) -> None:
    (challenge / "mixed_rand/val/0disc").rename(challenge / "mixed_rand/val/0disk")
    with pytest.raises(DataError, match="classes"):
        evaluate_backgrounds(task(challenge), challenge)


def test_training_images_are_asked_for(challenge: Path) -> None:
    (challenge / "original/train").rename(challenge / "elsewhere")
    with pytest.raises(DataError, match="--train"):
        evaluate_backgrounds(task(challenge), challenge)


def test_another_folder(challenge: Path) -> None:
    with pytest.raises(DataError, match="no variation"):
        evaluate_backgrounds(task(challenge), challenge / "original")


def test_stored_features_cannot_be_altered(challenge: Path) -> None:
    train, model = str(challenge / "original/train"), str(challenge.parent / "m")
    extract_to_file(train, challenge / "f.parquet", extractor=FeatureExtractor(model), progress=False)
    with pytest.raises(ConfigError, match="features"):
        evaluate_backgrounds(task(challenge, str(challenge / "f.parquet")), challenge)
