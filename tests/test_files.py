"""Files that appear whole or not at all, and the strict reader's corner cases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adios_zoo.errors import DataError
from adios_zoo.files import replacing, write_tensors, write_text


def fail_midway(path: Path, error: Exception) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise error


def test_what_stood_there_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(path, RuntimeError("midway"))
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208 (hidden files count)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="disk is full"):
        fail_midway(tmp_path / "a", OSError(28, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a folder"):
        write_text(tmp_path, "x")


def test_tensors_of_any_layout_that_share_memory(tmp_path: Path) -> None:
    base = torch.randn(2, 3, 4, 4)
    write_tensors(tmp_path / "t.safetensors", {"a": base, "b": base.permute(0, 2, 3, 1), "c": base[0]}, {"k": "v"})
    back = load_file(tmp_path / "t.safetensors")
    assert torch.equal(back["b"], base.permute(0, 2, 3, 1))
    assert torch.equal(back["c"], base[0])
