"""The figure on the bundled model's card is what its command gives."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from adios_zoo.train.data import load_images
from adios_zoo.train.probe.evaluate import encode, evaluate_knn
from PIL import Image

import adios_zoo
from adios_zoo.errors import DataError
from tests.conftest import DATA
from tests.models import saved_model, small_model
from tests.train.small import write_images

TINY = DATA / "tiny-imagenet"


@pytest.mark.skipif(not TINY.is_dir(), reason="ADIOS_DATA names no folder with tiny-imagenet/")
def test_the_cards_figure() -> None:
    figures = {f.name: f.value for f in adios_zoo.card("resnet18_tin200").figures}
    found = evaluate_knn(
        "resnet18_tin200",
        f"parquet:{TINY}/train-*.parquet",
        f"parquet:{TINY}/valid.parquet",
        train_images=20_000,
        progress=False,
    )
    assert found["train"]["images"] == 20_000
    assert found["test"]["images"] == 10_000
    assert found["acc1"] == pytest.approx(figures["k-NN top-1"], abs=0.5)


def test_images_go_through_the_models_own_transform(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=5, side=48))
    model = small_model()
    pictures = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in data.images]
    with torch.inference_mode():
        expected = torch.cat([model(model.transform(p)[None]) for p in pictures])
    torch.testing.assert_close(encode(model, data, model.transform), expected, rtol=1e-4, atol=1e-5)


def test_random_weights_differ_from_the_models_and_by_seed(tmp_path: Path) -> None:
    source = write_images(tmp_path / "a.parquet")
    folder = str(saved_model(tmp_path / "m"))
    results = [evaluate_knn(folder, source, source, k=5, random_seed=seed, progress=False) for seed in (None, 1, 1)]
    assert results[1] == results[2]
    assert results[0]["random_seed"] is None


def test_unlabelled_images_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet")
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns("label"), tmp_path / "b.parquet")
    source = f"parquet:{tmp_path}/b.parquet"
    with pytest.raises(DataError, match="without labels"):
        evaluate_knn(str(saved_model(tmp_path / "m")), source, source, progress=False)
