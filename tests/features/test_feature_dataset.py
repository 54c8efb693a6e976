"""Features as a torch data set: rows, labels, workers, an order for large files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.feature_dataset import FeatureDataset, GroupShuffle
from tests.features.test_read_file import rows, small_groups, write  # noqa: F401 (the fixture applies here, too)

IDS = [f"set/{'dog' if i % 3 else 'cat'}/{i}.jpg" for i in range(23)]
CAT_DOG = [int(i % 3 > 0) for i in range(23)]


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".csv"])
def test_workers_give_every_row_with_its_label(tmp_path: Path, suffix: str) -> None:
    data = FeatureDataset(write(tmp_path / f"f{suffix}", IDS), labels="folder")
    assert data.classes == ("cat", "dog")
    feature, label = data[4]
    assert torch.equal(feature, torch.from_numpy(rows()[4]))
    assert label == 1
    for workers in (0, 2) if suffix == ".parquet" else (0,):
        loader = DataLoader(data, batch_size=4, num_workers=workers)
        features, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
        np.testing.assert_array_equal(features.numpy(), rows())
        assert labels.tolist() == CAT_DOG


def test_without_labels_an_item_is_the_feature(tmp_path: Path) -> None:
    data = FeatureDataset(write(tmp_path / "f.npy", IDS))
    assert (data.labels, data.classes, len(data)) == (None, (), 23)
    (batch,) = DataLoader(data, batch_size=23)
    np.testing.assert_array_equal(batch.numpy(), rows())


def test_labels_of_a_csv_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.npy", IDS)
    table = tmp_path / "labels.csv"
    lines = [f"{id},{'b' if i % 2 else 'a'}" for i, id in enumerate(IDS)]
    table.write_text("\n".join(["path,label", *reversed(lines), "elsewhere.jpg,z"]))
    data = FeatureDataset(path, labels=f"csv:{table}")
    assert data.classes == ("a", "b")
    assert data.labels is not None
    assert data.labels.tolist() == [i % 2 for i in range(23)]
    table.write_text("\n".join(["path,label", *lines[:-1]]))
    with pytest.raises(DataError, match=f"no label for {IDS[-1]}"):
        FeatureDataset(path, labels=f"csv:{table}")
    table.write_text("a,b\n")
    with pytest.raises(DataError, match="columns path and label"):
        FeatureDataset(path, labels=f"csv:{table}")


@pytest.mark.parametrize(
    ("values", "labels", "classes"),
    [([7, 3] * 11 + [7], [7, 3] * 11 + [7], ()), (["y", "x"] * 11 + ["y"], [1, 0] * 11 + [1], ("x", "y"))],
)
def test_labels_of_a_column(tmp_path: Path, values: list[object], labels: list[int], classes: tuple[str, ...]) -> None:
    path = write(tmp_path / "f.parquet", IDS)
    table = pq.read_table(path)
    pq.write_table(table.append_column("kind", pa.array(values)), path, row_group_size=5)
    data = FeatureDataset(path, labels="column:kind")
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == (labels, classes)
    with pytest.raises(DataError, match="no column 'colour'; its columns are path, feature, kind"):
        FeatureDataset(path, labels="column:colour")
    pq.write_table(table.append_column("kind", pa.array([None, *values[1:]])), path)
    with pytest.raises(DataError, match="Row 0 of the features has no label"):
        FeatureDataset(path, labels="column:kind")


def test_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path / "f.npy", ["a.jpg", *IDS[1:]])
    with pytest.raises(ConfigError, match="'folder', 'column:NAME' or 'csv:PATH'"):
        FeatureDataset(path, labels="files")
    with pytest.raises(DataError, match=r"a\.jpg lies in no folder"):
        FeatureDataset(path, labels="folder")
    with pytest.raises(DataError, match="only parquet"):
        FeatureDataset(path, labels="column:kind")
    with pytest.raises(ConfigError, match="groups is 0"):
        GroupShuffle(FeatureDataset(path), groups=0)


def test_group_shuffle_mixes_rows_and_reads_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FeatureDataset(write(tmp_path / "f.parquet", IDS), cache_bytes=2 * 5 * 3 * 4)
    sampler = GroupShuffle(data, groups=2, seed=1)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert len({row // 5 for row in first[:8]}) == 2  # two groups, mixed
    read: list[int] = []
    original = data.file._read_features
    monkeypatch.setattr(data.file, "_read_features", lambda group: read.append(group) or original(group))
    batches = list(DataLoader(data, batch_size=3, sampler=sampler))
    assert sum(map(len, batches)) == len(sampler) == 23
    assert max(Counter(read).values()) <= 2  # a batch at a boundary may bring one back
    assert len(read) <= 7
