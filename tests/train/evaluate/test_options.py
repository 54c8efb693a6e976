"""Options of the commands: each reaches its function, and what is impossible is told before any work."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adios_zoo.cli import main
from adios_zoo.errors import AdiosError
from adios_zoo.search.knn import Cell
from tests.small_models import saved_model
from tests.train.small import write_images


@pytest.mark.parametrize(
    ("words", "function", "expected"),
    [
        (
            "knn -k 3 5 --distance cosine --temperature 0.5",
            "accuracy.knn.evaluate_knn",
            {"cells": [Cell(3, "cosine", 0.5), Cell(5, "cosine", 0.5)]},
        ),
        (
            "finetune --frozen-statistics --lr 0.25 --batch-size 3 --weight-decay 0.125 --optimiser lars --epochs 2 "
            "--sizes 16 32 --seeds 4 --workers 0 -o kept",
            "accuracy.finetune.evaluate_finetune",
            {
                "training.frozen_statistics": True,
                "training.lr": 0.25,
                "training.batch_size": 3,
                "training.weight_decay": 0.125,
                "training.optimiser": "lars",
                "training.epochs": 2,
                "training.sizes": (16, 32),
                "seeds": [4],
                "workers": 0,
                "output": Path("kept"),
            },
        ),
        (
            "finetune --protocol paper --no-frozen-statistics",
            "accuracy.finetune.evaluate_finetune",
            {"training.frozen_statistics": False, "training.lr": 0.5},
        ),
        ("linear --steps 7 --weight-decay 3", "accuracy.linear.evaluate_linear", {"steps": 7, "weight_decay": 3.0}),
        (
            "linear --augmented --lr 0.25 --workers 2",
            "accuracy.linear.evaluate_linear_augmented",
            {"training.lr": 0.25, "workers": 2},
        ),
        ("cluster --clusters 7 --starts 2", "accuracy.cluster.evaluate_cluster", {"clusters": 7, "starts": 2}),
        (
            "robust occlusion --kinds block slots --patch 5 --shares 0.5 --seed 6",
            "robustness.occlusion.evaluate_occlusion",
            {"kinds": ["block", "slots"], "patch": 5, "shares": [0.5], "seed": 6},
        ),
        (
            "robust corruptions --made folder --corruptions fog --severities 2 --baseline other --workers 0",
            "robustness.corruptions.evaluate_corruptions",
            {"made": Path("folder"), "corruptions": ["fog"], "severities": [2], "baseline": "other", "workers": 0},
        ),
        (
            "segment --predicted npy --boxes b.json --grid 9 --void 7 --crop-pct 0.5",
            "segmentation.segment.evaluate_segment",
            {
                "predicted": Path("npy"),
                "boxes": Path("b.json"),
                "masks": None,
                "grid_cells": 9,
                "void": 7,
                "crop_pct": 0.5,
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_options_reach_their_function(
    words: str, function: str, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = f"adios_zoo.train.evaluate.{function}".rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    found: dict[str, Any] = {}

    def reached(*args: object, **kwargs: object) -> None:
        found.update(signature.bind(*args, **kwargs).arguments)
        raise AdiosError("reached")

    monkeypatch.setattr(f"{module}.{name}", reached)
    train = [] if words.startswith(("cluster", "segment")) else ["--train", "a"]
    assert main(["evaluate", *words.split(), *train, "--test", "b", "--quiet"]) == 1
    for key, value in expected.items():
        argument, _, attribute = key.partition(".")
        assert (getattr(found[argument], attribute) if attribute else found[argument]) == value, key


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved_model(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("knn -k 0", "k takes 1 or more, not 0"),
        ("knn --temperature 0", "above 0, not 0.0"),
        ("knn --random --seed 99999999999999999999999", "from 0 to 4294967295"),
        ("linear --steps 0", "steps is 0"),
        ("linear --weight-decay -1", "weight_decay is -1.0"),
        ("linear --augmented --lr 0", "lr is 0.0"),
        ("linear --augmented --workers -1", "workers is -1"),
        ("finetune --epochs 0", "epochs is 0"),
        ("finetune --workers -1", "workers is -1"),
        ("finetune --batch-size 1", "batch size of 1; take 2 or more, or --frozen-statistics"),
        ("cluster --clusters 0", "clusters is 0"),
        ("cluster --starts 0", "starts is 0"),
        ("robust corruptions --workers -1", "workers is -1"),
        ("robust occlusion", "stored.parquet holds features"),
        ("segment --seed -1", "The seed is -1"),
    ],
)
def test_what_is_impossible_is_told_before_any_work(
    words: str,
    says: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*args: object, **kwargs: object) -> None:
        raise AssertionError("features were computed")

    monkeypatch.setattr("adios_zoo.train.evaluate.features.features_of", work)
    monkeypatch.setattr("adios_zoo.train.evaluate.segmentation.segment.truths", work)
    source = test = write_images(tmp_path / "a.parquet", 4)
    if words == "robust occlusion":
        pq.write_table(pa.table({"path": ["a"], "feature": [[1.0]]}), tmp_path / "stored.parquet")
        test = str(tmp_path / "stored.parquet")
    train = [] if words.startswith("segment") else ["--train", source]
    assert main(["evaluate", *words.split(), *train, "--test", test, "--model", model, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
