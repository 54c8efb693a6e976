"""A model that was trained without a masker: saved, loaded, verified, shown; its masks refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adios_zoo.export.to_onnx import graphs
from adios_zoo.export.verification import verify

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError
from adios_zoo.pictures.demo import run_demo
from adios_zoo.zoo.load import load_model
from adios_zoo.zoo.publish import publish
from tests.small_models import saved_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "model", masker=None)


def test_saved_and_loaded(folder: Path) -> None:
    assert sorted(p.name for p in folder.glob("*.safetensors")) == ["golden.safetensors", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["adios"]["masker"] is None
    assert "Masker: none" in (folder / "README.md").read_text()
    model = load_model(folder)
    x = torch.randn(2, 3, 32, 32)
    assert model(x).shape[0] == 2
    assert set(graphs(model)) == {"encoder", "encoder_uint8"}
    with pytest.raises(ConfigError, match="test_resnet_shapes_simclr has no masker"):
        model.masks(x)


def test_a_masker_that_was_there_before_goes(tmp_path: Path) -> None:
    saved_model(tmp_path)
    saved_model(tmp_path, masker=None)
    assert not (tmp_path / "masker.safetensors").exists()
    load_model(tmp_path)


def test_verified(folder: Path) -> None:
    checks = verify(folder)
    assert all(check.passed for check in checks)
    assert "torch, golden masks" not in {check.what for check in checks}


def test_the_demo_shows_features_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(tmp_path / "out", str(folder)).pictures == ()
    assert "trained without a masker" in capsys.readouterr().out


def test_adios_masks_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from adios_zoo.pictures.demo import sample_photographs

    arguments = ["masks", str(sample_photographs()[0]), "-o", str(tmp_path / "m"), "--model", str(folder), "--quiet"]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no masker" in line


def test_published(folder: Path) -> None:
    files = publish(folder, "org/name", dry_run=True).files
    assert "model.safetensors" in files
    assert "masker.safetensors" not in files
