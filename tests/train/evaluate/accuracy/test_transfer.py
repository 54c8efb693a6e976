"""Labels and splits of any source: torchvision's data sets in small copies of their layouts, class folders, tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from adios_zoo.train.evaluate.accuracy.cluster import evaluate_cluster
from adios_zoo.train.evaluate.accuracy.finetune import evaluate_finetune
from adios_zoo.train.evaluate.accuracy.knn import evaluate_knn
from adios_zoo.train.evaluate.accuracy.linear import evaluate_linear
from adios_zoo.train.evaluate.protocol import Training
from adios_zoo.train.evaluate.task import Task
from PIL import Image

from adios_zoo.errors import DataError
from adios_zoo.search.knn import Cell
from tests.conftest import DATA
from tests.small_models import saved_model
from tests.sources.test_torchvision_sets import SETS, md5, write_cifar100

Layout = Callable[[Path, pytest.MonkeyPatch], tuple[str, str]]


def picture(label: int, number: int, side: int) -> Image.Image:
    """A picture whose brightness is its label."""
    rng = np.random.default_rng(100 * label + number)
    return Image.fromarray((80 * label + rng.integers(0, 20, (side, side + 8, 3))).astype(np.uint8))


def flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    labels = [1, 1, 2, 2, 3, 3, 1, 2, 3]
    for number, label in enumerate(labels, 1):
        picture(label - 1, number, 140).save(folder / "jpg" / f"image_{number:05}.jpg")
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([labels])})
    splits = {"trnid": [list(range(1, 7))], "valid": [[1]], "tstid": [[7, 8, 9]]}
    scipy.io.savemat(folder / "setid.mat", {key: np.array(ids) for key, ids in splits.items()})
    names = (("label", "imagelabels"), ("setid", "setid"))
    stated = {key: (f"{name}.mat", md5(folder / f"{name}.mat")) for key, name in names}
    monkeypatch.setattr(SETS.Flowers102, "_file_dict", stated)
    return "torchvision:Flowers102", "torchvision:Flowers102:test"


def stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    folder = root / "stl10_binary"
    folder.mkdir()
    for part, labels in {"train": [0, 1, 2] * 3, "test": [2, 1, 0]}.items():
        pixels = [np.asarray(picture(label, i, 96))[:, :96] for i, label in enumerate(labels)]
        np.stack(pixels).transpose(0, 3, 2, 1).tofile(folder / f"{part}_X.bin")
        (np.array(labels, np.uint8) + 1).tofile(folder / f"{part}_y.bin")
    np.zeros((1, 3, 96, 96), np.uint8).tofile(folder / "unlabeled_X.bin")
    (folder / "class_names.txt").write_text("dark\ngrey\nlight\n")
    for attribute, files in {
        "train_list": ("train_X", "train_y", "unlabeled_X"),
        "test_list": ("test_X", "test_y"),
    }.items():
        monkeypatch.setattr(SETS.STL10, attribute, [[f"{n}.bin", md5(folder / f"{n}.bin")] for n in files])
    return "torchvision:STL10", "torchvision:STL10:test"


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    write_cifar100(root, monkeypatch)
    return "torchvision:CIFAR100", "torchvision:CIFAR100:test"


def folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    for part, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(("dark", "grey", "light")):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                picture(label, 10 * i + count, 40).save(root / part / name / f"{i}.png")
    return str(root / "train"), str(root / "test")


@pytest.mark.parametrize("layout", [flowers, stl10, cifar100, folders])
def test_transfer(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_DATASETS", str(tmp_path))
    train, test = layout(tmp_path, monkeypatch)
    task = Task(train=train, test=test, model=str(saved_model(tmp_path / "m")))
    found = evaluate_knn(task, [Cell(1)])
    assert (found["test"]["source"], found["test"]["images"]) == (test, 3)
    tuned = evaluate_finetune(task, Training(epochs=1, lr=0.01, schedule="cosine", batch_size=4), workers=0)
    assert tuned["classes"] == (102 if layout is flowers else 3)
    assert tuned["train"]["fingerprint"] == found["train"]["fingerprint"]
    if layout is not cifar100:  # whose labels cannot be seen in its images
        assert found["figures"]["acc1"] == 100
        assert evaluate_cluster(task, clusters=3, seeds=[0], starts=1)["figures"]["accuracy"]["mean"] == 100
    else:
        assert len(evaluate_linear(task, seeds=[0], steps=3)["figures"]["acc1"]["values"]) == 1


def test_a_part_without_labels_is_refused_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_DATASETS", str(tmp_path))
    stl10(tmp_path, monkeypatch)
    task = Task(
        train="torchvision:STL10:train+unlabeled", test="torchvision:STL10:test", model=str(saved_model(tmp_path / "m"))
    )
    for evaluate in (evaluate_knn, evaluate_finetune):
        with pytest.raises(DataError, match=r"torchvision:STL10:train\+unlabeled has images without labels"):
            evaluate(task)


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="ADIOS_DATA names no folder with cifar10/")
def test_the_bundled_encoder_on_cifar10() -> None:
    cifar10 = f"parquet:{DATA}/cifar10"
    task = Task(train=f"{cifar10}/train.parquet", test=f"{cifar10}/test.parquet", train_images=500, test_images=200)
    assert evaluate_knn(task)["figures"]["acc1"] > 20  # chance is 10
