"""What is left of a run that was killed, whatever the moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.journal import Failure, Journal

DEPENDS = {"weights": "w", "images": "i"}
ROWS = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)


def filled(output: Path) -> tuple[Path, list[int]]:
    """Three frames; the file, and its size after each."""
    sizes = []
    with Journal(output, DEPENDS) as journal:
        for part in range(3):
            journal.add([f"{part}a", f"{part}b"], ROWS[2 * part : 2 * part + 2], [Failure(f"{part}x", "bad")])
            journal.flush()
            sizes.append(journal.path.stat().st_size)
    return journal.path, sizes


def kept(output: Path) -> tuple[list[str], int, int]:
    with Journal(output, DEPENDS, resume=True) as journal:
        frames = list(journal.frames())
        assert journal.position == sum(len(ids) + len(failures) for ids, _, failures in frames)
        for ids, features, _ in frames:
            np.testing.assert_array_equal(features, ROWS[[2 * int(id[0]) + (id[1] == "b") for id in ids]])
        return [id for ids, _, _ in frames for id in ids], journal.rows, journal.failed


def test_everything_comes_back(tmp_path: Path) -> None:
    filled(tmp_path / "f.npy")
    assert kept(tmp_path / "f.npy") == (["0a", "0b", "1a", "1b", "2a", "2b"], 6, 3)


def test_cut_at_any_byte_whole_frames_come_back_and_it_goes_on(tmp_path: Path) -> None:
    path, sizes = filled(tmp_path / "f.npy")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        frames = sum(size <= length for size in sizes)
        with Journal(tmp_path / "f.npy", DEPENDS, resume=True) as journal:
            assert (journal.rows, journal.failed) == (2 * frames, frames)
            journal.add(["9a"], ROWS[:1], [])
            journal.flush()
            assert [ids for ids, _, _ in journal.frames()][-1] == ["9a"]
            assert sum(len(ids) for ids, _, _ in journal.frames()) == 2 * frames + 1


def test_a_last_frame_that_did_not_reach_the_disk_is_dropped(tmp_path: Path) -> None:
    path, sizes = filled(tmp_path / "f.npy")
    data = path.read_bytes()
    path.write_bytes(data[: sizes[1] + 40] + bytes(len(data) - sizes[1] - 40))
    assert kept(tmp_path / "f.npy")[1:] == (4, 2)


def test_damage_further_up_is_said(tmp_path: Path) -> None:
    path, sizes = filled(tmp_path / "f.npy")
    data = bytearray(path.read_bytes())
    data[sizes[0] - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged; delete it"):
        kept(tmp_path / "f.npy")


def test_rows_of_a_few_seconds_have_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "f.npy", DEPENDS) as journal:
        journal.add(["a"], ROWS[:1], [])
        assert not journal.path.exists()
        assert [ids for ids, _, _ in journal.frames()] == [["a"]]
        journal.remove()
    assert not list(tmp_path.iterdir())


def test_another_process_is_not_written_over(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "f.npy", DEPENDS), Journal(tmp_path / "f.npy", DEPENDS)
    first.add(["a"], ROWS[:1], [])
    first.flush()
    second.add(["b"], ROWS[:1], [])
    with pytest.raises(DataError, match="another process has begun"):
        second.flush()
    with pytest.raises(DataError, match="another process is writing"):
        Journal(tmp_path / "f.npy", DEPENDS, resume=True)
    with pytest.raises(ConfigError, match="add --resume"):
        Journal(tmp_path / "f.npy", DEPENDS)
