"""Training images: decoding, labels, order, and what is wrong with a source."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from adios_zoo.train.chance import epoch_order, generator_for
from adios_zoo.train.data import load_images

from adios_zoo.errors import ConfigError, DataError
from tests.conftest import DATA
from tests.train.small import CLASSES, write_images

TINY = DATA / "tiny-imagenet"


def test_images_labels_and_classes(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=7))
    assert data.images.shape == (7, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert data.classes == CLASSES
    brightest = data.images.float().mean(dim=(2, 3)).argmax(dim=1)
    assert brightest.tolist() == data.labels.tolist()


def test_files_follow_each_other_in_name_order(tmp_path: Path) -> None:
    write_images(tmp_path / "b.parquet", count=5, side=32)
    write_images(tmp_path / "a.parquet", count=4, side=32)
    both = load_images(f"parquet:{tmp_path}/*.parquet")
    assert len(both) == 9
    assert both.labels.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1]
    assert len(load_images(f"parquet:{tmp_path}/*.parquet", limit=6)) == 6


def test_the_fingerprint_tells_data_apart(tmp_path: Path) -> None:
    a = load_images(write_images(tmp_path / "a.parquet", count=6))
    again = load_images(write_images(tmp_path / "again.parquet", count=6))
    fewer = load_images(write_images(tmp_path / "fewer.parquet", count=5))
    assert a.fingerprint == again.fingerprint != fewer.fingerprint


def test_other_sizes_are_resized_and_cut(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=3, side=48), size=32)
    assert data.images.shape == (3, 3, 32, 32)


def test_broken_images_are_listed_with_reasons(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=6, broken=(1,)))
    assert len(data) == 5
    assert data.labels.tolist() == [0, 2, 0, 1, 2]
    ((where, reason),) = data.failures
    assert where == "a.parquet[1]"
    assert reason


@pytest.mark.parametrize(
    ("source", "error", "word"),
    [
        ("photos/", ConfigError, "parquet:GLOB"),
        ("zip:a.zip", ConfigError, "parquet:GLOB"),
        ("parquet:/nowhere/*.parquet", DataError, "No file matches"),
    ],
)
def test_unknown_sources(source: str, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        load_images(source)


def test_files_of_another_layout(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a readable parquet"):
        load_images(f"parquet:{tmp_path}/text.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no column 'image'"):
        load_images(f"parquet:{tmp_path}/other.parquet")
    with pytest.raises(DataError, match="None of the first images"):
        load_images(write_images(tmp_path / "all.parquet", count=2, broken=(0, 1)))


def test_a_cell_without_bytes_is_a_failure_and_plain_bytes_are_an_image(tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet", count=3)
    whole = pq.read_table(tmp_path / "a.parquet")["image"].to_pylist()
    cells = [whole[0]["bytes"], None, whole[2]["bytes"]]
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), tmp_path / "b.parquet")
    data = load_images(f"parquet:{tmp_path}/b.parquet")
    assert len(data) == 2
    assert [where for where, _ in data.failures] == ["b.parquet[1]"]
    assert data.labels.tolist() == [-1, -1]


def test_every_epoch_visits_every_image_once_in_an_order_of_its_own() -> None:
    first, second = epoch_order(50, seed=3, epoch=0), epoch_order(50, seed=3, epoch=1)
    assert sorted(first.tolist()) == list(range(50))
    assert first.tolist() != second.tolist()
    assert torch.equal(first, epoch_order(50, seed=3, epoch=0))


def test_generators_differ_by_purpose_and_number() -> None:
    draws = {
        float(torch.rand((), generator=generator_for(seed, purpose, number)))
        for seed in (0, 1)
        for purpose in ("order", "step")
        for number in (0, 1)
    }
    assert len(draws) == 8


@pytest.mark.skipif(not TINY.is_dir(), reason="ADIOS_DATA names no folder with tiny-imagenet/")
def test_real_images_grey_ones_included() -> None:
    data = load_images(f"parquet:{TINY}/valid.parquet", limit=300)
    assert data.images.shape == (300, 3, 64, 64)
    assert not data.failures
    assert len(data.classes) == 200
    assert data.images.float().std() > 40
