"""What the commands print and write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adios_zoo.cli import main
from adios_zoo.sources.open import open_source
from tests.small_models import saved_model
from tests.train.small import save_in_class_folders, write_images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    source = write_images(tmp_path / "a.parquet", count=18)
    save_in_class_folders(open_source(source), tmp_path / "images")
    saved_model(tmp_path / "m")
    return tmp_path


def run(data: Path, *arguments: str) -> dict[str, object]:
    options = ["--model", str(data / "m"), "--json", str(data / "out.json"), "--quiet"]
    assert main(["evaluate", *arguments, *options]) == 0
    return json.loads((data / "out.json").read_text())


def test_segment(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (data / "images").rglob("*.png"):
        target = data / "maps" / path.relative_to(data / "images")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(32, dtype=np.uint8) + np.eye(32, k=5, dtype=np.uint8)).save(target)
    result = run(data, "segment", "--test", str(data / "images"), "--masks", str(data / "maps"), "--void", "none")
    printed = capsys.readouterr().out
    assert f"{result['figures']['random masker']['ari']:.2f}" in printed
    assert "18 test images with 18 objects" in printed
    assert result["void"] is None


def test_occlusion(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"parquet:{data}/a.parquet"
    result = run(data, "robust", "occlusion", "--train", source, "--test", source, "--shares", "0.5", "1")
    printed = capsys.readouterr().out.splitlines()
    assert printed[4].split() == ["share", "patches", "block", "slots"]
    assert [line.split()[0] for line in printed[5:7]] == ["0.5", "1"]
    assert f"{result['slots'][2]['accuracy']:.2f}" in printed[-1]


def test_corruptions(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"parquet:{data}/a.parquet"
    chosen = ["--corruptions", "contrast", "--severities", "1", "5", "--workers", "0", "--test-images", "4"]
    result = run(
        data, "robust", "corruptions", "--train", source, "--test", source, "--baseline", str(data / "m"), *chosen
    )
    printed = capsys.readouterr().out
    assert printed.splitlines()[4].split() == ["corruption", "1", "5", "CE", "relative", "CE"]
    assert f"{result['mean']:.2f} on corrupted" in printed


def test_backgrounds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mixed_same", "mixed_rand"):
        save_in_class_folders(open_source(f"parquet:{data}/a.parquet"), data / "challenge" / name / "val")
    result = run(data, "robust", "backgrounds", str(data / "challenge"), "--train", str(data / "images"))
    assert result["bg_gap"] == 0
    assert "BG-gap 0.00 points" in capsys.readouterr().out
