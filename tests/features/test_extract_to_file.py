"""Features into files: whole or not at all, the same rows however often a run was broken off."""

from __future__ import annotations

import csv
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features import journal
from adios_zoo.features.extract_to_file import extract_to_file
from adios_zoo.features.read_file import read_features
from adios_zoo.images.image import ImageRef
from adios_zoo.sources.source import Stream
from tests.conftest import ROOT
from tests.stub import stub_extractor
from tests.tiny import break_five, small_images, tiny_extractor

SUFFIXES = [".parquet", ".npy", ".safetensors", ".csv"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_images(tmp_path / "images")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_hold_the_same_rows_with_and_without_broken_images(
    folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"f{suffix}"
    side = tmp_path / f"f{suffix}.failed.csv"
    good = extract_to_file(folder, output, extractor=tiny_extractor())
    assert (good.rows, good.dim, good.failures, good.exit_code) == (11, 8, (), 0)
    assert "images/s" in capsys.readouterr().err
    assert not side.exists()
    ids, features = read_features(output)
    assert ids == [str(path) for path in sorted(folder.iterdir())]

    broken = break_five(folder)
    report = extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, force=True)
    again_ids, again = read_features(output)
    assert again_ids == ids
    np.testing.assert_array_equal(again, features)
    assert (report.rows, len(report.failures), report.exit_code) == (11, 5, 1)
    with side.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert {Path(row["path"]).name for row in listed} == broken
    assert all(row["reason"] for row in listed)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all(any(name in line for line in lines) for name in broken)

    allowed = extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, skip_bad=True, force=True)
    assert (allowed.exit_code, side.exists()) == (0, True)
    for name in broken:
        (folder / name).unlink()
    extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, force=True)
    assert not side.exists()


def test_no_image_left_is_an_error_and_writes_no_features(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    output = tmp_path / "f.parquet"
    with pytest.raises(DataError, match=r"none of the 1 images.*a\.jpg"):
        extract_to_file(tmp_path, output, extractor=tiny_extractor(), progress=False, skip_bad=True)
    assert not output.exists()
    assert "a.jpg,the file is empty" in (tmp_path / "f.parquet.failed.csv").read_text().replace(str(tmp_path) + "/", "")
    with pytest.raises(DataError, match="none of the 1 images"):
        tiny_extractor().extract(tmp_path, skip_bad=True)
    with pytest.raises(DataError, match="no images were given"):
        tiny_extractor().extract([])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "f.parquet.failed.csv"]


class BrokenOffError(Exception):
    pass


def broken_run(folder: Path, output: Path, *, batches: int) -> None:
    """Let a run end by an error after so many batches."""
    run = tiny_extractor()
    forward, calls = run.backend.model.forward, []

    def fails(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > batches:
            raise BrokenOffError
        return forward(x)

    run.backend.model.forward = fails
    with pytest.raises(BrokenOffError):
        extract_to_file(folder, output, extractor=run, progress=False)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batches", [1, 2])
def test_a_broken_run_leaves_no_output_and_goes_on(folder: Path, tmp_path: Path, suffix: str, batches: int) -> None:
    break_five(folder)
    output, whole = tmp_path / f"f{suffix}", tmp_path / f"whole{suffix}"
    extract_to_file(folder, whole, extractor=tiny_extractor(), progress=False)
    broken_run(folder, output, batches=batches)
    assert not output.exists()
    with pytest.raises(ConfigError, match=r"unfinished run; add --resume"):
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)

    run = tiny_extractor()
    report = extract_to_file(folder, output, extractor=run, progress=False, resume=True)
    assert (report.rows, len(report.failures)) == (11, 5)
    assert output.read_bytes() == whole.read_bytes()
    assert (tmp_path / f"f{suffix}.failed.csv").read_bytes() == (tmp_path / f"whole{suffix}.failed.csv").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_resumed_run_encodes_only_what_is_left(folder: Path, tmp_path: Path) -> None:
    broken_run(folder, tmp_path / "f.npy", batches=2)
    run = tiny_extractor()
    forward, seen = run.backend.model.forward, []
    run.backend.model.forward = lambda x: seen.append(len(x)) or forward(x)
    extract_to_file(folder, tmp_path / "f.npy", extractor=run, progress=False, resume=True)
    assert seen == [3]


def test_resume_without_an_unfinished_run_begins_one(folder: Path, tmp_path: Path) -> None:
    report = extract_to_file(folder, tmp_path / "f.npy", extractor=tiny_extractor(), progress=False, resume=True)
    assert report.rows == 11


@pytest.mark.parametrize("what", ["batch size", "images", "shard", "weights"])
def test_another_run_is_not_resumed(folder: Path, tmp_path: Path, what: str) -> None:
    output = tmp_path / "f.npy"
    broken_run(folder, output, batches=2)
    run, shard = tiny_extractor(), None
    if what == "batch size":
        run = tiny_extractor(batch_size=5)
    elif what == "images":
        Image.new("RGB", (9, 9)).save(folder / "zz.png")
    elif what == "shard":
        shard = "0/2"
    else:
        run.backend.model.conv.weight.data[0] += 1
    with pytest.raises(ConfigError, match=f"another {what} "):
        extract_to_file(folder, output, extractor=run, progress=False, resume=True, shard=shard)
    assert (
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, resume=True).rows == 11
        if (what != "images")
        else True
    )


def test_images_that_come_one_by_one_are_written_but_not_resumed(folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.iterdir())
    assert extract_to_file(iter(paths), tmp_path / "f.npy", extractor=tiny_extractor(), progress=False).rows == 11
    with pytest.raises(ConfigError, match="one by one"):
        extract_to_file(iter(paths), tmp_path / "f.npy", extractor=tiny_extractor(), progress=False, resume=True)


@pytest.mark.parametrize("count", [1, 3, 11])
def test_shards_are_the_whole_in_parts(folder: Path, tmp_path: Path, count: int) -> None:
    whole = tmp_path / "whole.npy"
    extract_to_file(folder, whole, extractor=tiny_extractor(), progress=False)
    parts = []
    for i in range(count):
        shard = tmp_path / f"{i}.npy"
        extract_to_file(folder, shard, extractor=tiny_extractor(), progress=False, shard=f"{i}/{count}")
        parts.append(read_features(shard))
    ids, features = read_features(whole)
    assert [id for part, _ in parts for id in part] == ids
    np.testing.assert_allclose(np.concatenate([rows for _, rows in parts]), features, atol=1e-6)
    assert max(len(part) for part, _ in parts) - min(len(part) for part, _ in parts) <= 1


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "/", "0/0"])
def test_wrong_shards_are_one_sentence(folder: Path, tmp_path: Path, shard: str) -> None:
    with pytest.raises(ConfigError, match="give i/n"):
        extract_to_file(folder, tmp_path / "f.npy", extractor=tiny_extractor(), progress=False, shard=shard)


class Endless(Stream):
    """Grey images by number, without a length."""

    spec = "endless"

    def __init__(self, count: int) -> None:
        self.count = count

    def iterate(self, start: int = 0, stop: int | None = None):  # type: ignore[no-untyped-def]
        for i in range(start, self.count if stop is None else min(stop, self.count)):
            yield ImageRef(str(i), lambda i=i: Image.new("RGB", (8, 8), (i % 256, i // 256 % 256, 0)))

    def fingerprint(self) -> str:
        return str(self.count)


def test_a_stream_is_resumed_but_has_no_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adios_zoo.features.extract_to_file.open_images", lambda images: images)
    broken_run(Endless(30), tmp_path / "f.npy", batches=3)
    extract_to_file(Endless(30), tmp_path / "f.npy", extractor=tiny_extractor(), progress=False, resume=True)
    assert read_features(tmp_path / "f.npy")[0] == [str(i) for i in range(30)]
    with pytest.raises(ConfigError, match="no length"):
        extract_to_file(Endless(30), tmp_path / "g.npy", extractor=tiny_extractor(), progress=False, shard="0/2")


def test_a_full_disk_is_one_sentence_and_the_run_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_SECONDS_A_FRAME", 0)
    extract_to_file(folder, tmp_path / "whole.npy", extractor=tiny_extractor(), progress=False)
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(1)
        if len(calls) > 2:  # settings and a first frame have been written
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    output = tmp_path / "f.npy"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"f\.npy: the disk is full; free some space, then go on with --resume\.$"):
            extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)
    assert not output.exists()
    extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, resume=True)
    assert output.read_bytes() == (tmp_path / "whole.npy").read_bytes()


KILLED = """
import sys
from pathlib import Path
from adios_zoo.features import journal
from adios_zoo.features.extract_to_file import extract_to_file
from tests.stub import stub_extractor
journal._SECONDS_A_FRAME = 0
run = stub_extractor(seconds=0.02)
extract_to_file(sys.argv[1], Path(sys.argv[2]), extractor=run, progress=False, resume=True)
"""


def test_killed_at_any_moment_and_resumed_the_rows_are_the_same(tmp_path: Path) -> None:
    folder = small_images(tmp_path / "images", count=300)
    break_five(folder)
    whole, output = tmp_path / "whole.parquet", tmp_path / "f.parquet"
    extract_to_file(folder, whole, extractor=stub_extractor(), progress=False)
    command = [sys.executable, "-c", KILLED, str(folder), str(output)]
    root = ROOT
    unfinished = tmp_path / "f.parquet.unfinished"
    size = 0
    for wait in (0.0, 0.013, 0.004, 0.021, 0.009):
        process = subprocess.Popen(command, cwd=root)
        while process.poll() is None and (not unfinished.exists() or unfinished.stat().st_size <= size):
            time.sleep(0.002)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not output.exists()
        assert unfinished.stat().st_size > size
        size = unfinished.stat().st_size
    assert subprocess.run(command, cwd=root, check=False).returncode == 0
    ids, features = read_features(output)
    expected_ids, expected = read_features(whole)
    assert ids == expected_ids
    np.testing.assert_array_equal(features, expected)
    failed = (tmp_path / "f.parquet.failed.csv").read_bytes()
    assert failed == (tmp_path / "whole.parquet.failed.csv").read_bytes()


MEMORY = """
import resource, sys
from pathlib import Path
from PIL import Image
from adios_zoo.features import extract_to_file as extract_file, journal
from adios_zoo.images.image import ImageRef
from tests.stub import stub_extractor
journal._ROWS_A_FRAME = 512
extract_file.open_images = lambda images: images
picture = Image.new("RGB", (64, 64))
run = stub_extractor(batch_size=64, dim=512)
def most(rows):
    refs = (ImageRef(str(i), lambda: picture) for i in range(rows))
    extract_file.extract_to_file(refs, Path(sys.argv[1]) / "f.npy", extractor=run, progress=False, force=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
most(2000)
few = most(2000)
print(most(20000) - few)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 12  # MiB; the 18,000 rows more are 36
