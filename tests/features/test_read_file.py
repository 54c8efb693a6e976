"""Feature files in pieces: any rows, group by group, several files as one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features import feature_formats
from adios_zoo.features.read_file import open_features
from adios_zoo.features.write_file import Features, open_writer

SUFFIXES = [".parquet", ".npy", ".safetensors", ".csv"]
IDS = ["a,b.jpg", 'q"uote.jpg', "ü/中.png", *(f"c/{i}.jpg" for i in range(20))]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_formats, "_ROWS_A_GROUP", 5)
    monkeypatch.setattr("adios_zoo.features.write_file._ROWS_A_GROUP", 5)


def rows(count: int = len(IDS), dim: int = 3) -> Features:
    return np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)


def write(path: Path, ids: list[str] = IDS, features: Features | None = None, model: str = "m") -> Path:
    features = rows(len(ids)) if features is None else features
    with open_writer(path, {"adios.model": model, "adios.card": model}) as writer:
        for start in range(0, len(ids), 5):
            writer.write(ids[start : start + 5], features[start : start + 5])
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_rows_and_all_rows(tmp_path: Path, suffix: str) -> None:
    file = open_features(write(tmp_path / f"f{suffix}"))
    assert (len(file), file.dim) == (23, 3)
    assert [len(group) for group in file.groups] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(list(file.features())), rows())
    assert list(file.ids()) == IDS
    order = [22, 0, 7, 7, -1, 4]
    np.testing.assert_array_equal(file.take(order), rows()[order])
    assert file.take_ids(order) == [IDS[i] for i in order]
    assert file.take([]).shape == (0, 3)
    assert file.rows_of(["c/3.jpg", "nowhere", IDS[0]]) == {"c/3.jpg": 6, IDS[0]: 0}
    with pytest.raises(IndexError, match="23 rows"):
        file.take([23])
    copy = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(copy.take(order), rows()[order])


def test_the_last_line_of_a_csv_needs_no_end(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert list(open_features(path).ids()) == IDS


def test_a_folder_or_glob_of_parquet_files_is_one_file(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", IDS[:12], rows()[:12])
    write(tmp_path / "2.parquet", IDS[12:], rows()[12:])
    (tmp_path / "2.parquet.failed.csv").touch()
    for spec in (tmp_path, tmp_path / "?.parquet"):
        file = open_features(spec)
        assert list(file.ids()) == IDS
        np.testing.assert_array_equal(file.take([0, 11, 12, 22]), rows()[[0, 11, 12, 22]])
        assert file.metadata == {"adios.model": "m", "adios.card": "m"}
    write(tmp_path / "3.parquet", ["x"], rows(1), model="other")
    with pytest.raises(DataError, match=r"3\.parquet and 1\.parquet were made by different models"):
        open_features(tmp_path)


def test_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_features(write(tmp_path / "f.parquet"), cache_bytes=2 * 5 * 3 * 4)
    read: list[int] = []
    original = file._read_features
    monkeypatch.setattr(file, "_read_features", lambda group: read.append(group) or original(group))
    file.take([0, 6, 1, 7])
    file.take([2, 8])
    assert read == [0, 1]  # both are kept
    file.take([22])
    file.take([0])
    assert read == [0, 1, 4, 0]  # two at most


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; write it with 'adios extract'"):
        open_features(tmp_path / "none.parquet")
    with pytest.raises(ConfigError, match="cannot tell the format"):
        open_features(tmp_path / "f.txt")
    with pytest.raises(DataError, match=r"no \.parquet files"):
        open_features(tmp_path)
    for suffix in SUFFIXES:
        (tmp_path / f"bad{suffix}").write_bytes(b"nonsense")
        with pytest.raises(DataError, match="not a feature file of 'adios extract'"):
            open_features(tmp_path / f"bad{suffix}")
    save_file({"features": np.zeros((2, 3), np.float64)}, tmp_path / "f.safetensors")
    with pytest.raises(DataError, match="features of type F64"):
        open_features(tmp_path / "f.safetensors")
    path = write(tmp_path / "f.npy")
    path.with_name("f.npy.paths.txt").write_text("one\n")
    with pytest.raises(DataError, match="1 paths do not match"):
        open_features(path)
