from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from adios_zoo import files
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features import write_file as writers
from adios_zoo.features.read_file import read_features
from adios_zoo.features.write_file import open_writer

IDS = ["a.jpg", 'odd, "name".jpg', "ü/b c.jpg", "d.jpg", "e.jpg"]
FEATURES = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32) * np.float32(1e-3)
SUFFIXES = [".parquet", ".npy", ".safetensors", ".csv"]


def fill(path: Path) -> None:
    with open_writer(path, {"adios.model": "m"}) as writer:
        writer.write(IDS[:2], FEATURES[:2])
        writer.write([], FEATURES[:0])
        writer.write(IDS[2:], FEATURES[2:])


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"features{request.param}"


def test_round_trip(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_ROWS_A_GROUP", 2)
    fill(path)
    ids, features = read_features(path)
    assert ids == IDS
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, FEATURES)


def test_a_new_file_replaces_the_old_and_leaves_nothing_else(path: Path) -> None:
    path.write_text("old")
    fill(path)
    fill(path)
    sidecar = {f"{path.name}.paths.txt"} if path.suffix in (".npy", ".safetensors") else set()
    assert {file.name for file in path.parent.iterdir()} == {path.name} | sidecar


def test_an_error_midway_leaves_the_old_file_alone(path: Path) -> None:
    path.write_text("old")

    def broken() -> None:
        with open_writer(path) as writer:
            writer.write(IDS, FEATURES)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_no_rows_and_wrong_shapes_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="no features"), open_writer(path):
        pass
    with pytest.raises(DataError, match="rows of"), open_writer(path) as writer:
        writer.write(IDS, FEATURES[:3])
    with pytest.raises(DataError, match="rows of 7"), open_writer(path) as writer:
        [writer.write(IDS, rows) for rows in (FEATURES, FEATURES[:, :5])]
    assert not list(path.parent.iterdir())


def test_mode_follows_the_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        fill(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written to")]
)
def test_full_disk_and_forbidden_folder(path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(DataError, match=says):
        fill(path)
    assert not list(path.parent.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full, which is always full")
def test_a_disk_that_fills_up_while_rows_are_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", **k: opened(Path("/dev/full") if "x" in mode else self, "wb", **k),
    )
    rows = np.zeros((64, 4096), np.float32)
    with pytest.raises(DataError, match="the disk is full"), open_writer(path) as writer:
        writer.write([str(i) for i in range(64)], rows)


def test_a_folder_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataError, match="this is a folder"), open_writer(tmp_path / "a.csv"):
        pass
    with pytest.raises(ConfigError, match=r"\.parquet.*\.npy.*\.csv"), open_writer(tmp_path / "a.h5"):
        pass
    with pytest.raises(ConfigError, match=r"\.parquet.*\.npy.*\.csv"):
        read_features(tmp_path / "a.h5")


def test_parquet_has_fixed_lists_and_names_the_model(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    fill(tmp_path / "a.parquet")
    schema = parquet.read_schema(tmp_path / "a.parquet")
    assert schema.field("feature").type == pa.list_(pa.float32(), 7)
    assert schema.field("path").type == pa.string()
    assert schema.metadata[b"adios.model"] == b"m"
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 1


def test_npy_is_plain_numpy(tmp_path: Path) -> None:
    fill(tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), FEATURES)
    assert (tmp_path / "a.npy.paths.txt").read_text(encoding="utf-8").splitlines() == IDS


def test_reading_something_else_is_one_sentence(path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_features(path)
    for content in ("", "something else\n1,2\n"):
        path.write_text(content)
        with pytest.raises(DataError, match="not a feature file"):
            read_features(path)
