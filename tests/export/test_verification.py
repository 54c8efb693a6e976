"""``adios verify``: what is whole passes, whatever is changed fails, with the right exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from adios_zoo.export.verification import verify
from safetensors.torch import load_file, save_file

from adios_zoo.cli import main
from adios_zoo.errors import CardError
from adios_zoo.models.card import facts_of
from tests.releases import release
from tests.small_models import exported_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("verify") / "model")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_a_whole_folder(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = {c.what: c.passed for c in verify(whole)}
    assert all(checks.values())
    backends = {"torch, golden features", "torch, golden masks"}
    backends |= {f"ONNX Runtime, {name}.onnx" for name in ("encoder", "masker", "encoder_uint8")}
    assert backends < set(checks)
    assert main(["verify", str(whole)]) == 0
    assert "largest difference" in capsys.readouterr().out


def test_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "resnet18_tin200"]) == 0
    assert "verified" in capsys.readouterr().out


FILES = ["model.safetensors", "masker.safetensors", "golden.safetensors", "config.json", "README.md"]
FILES += [f"onnx/{name}.onnx" for name in ("encoder", "masker", "encoder_uint8")]


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte(folder: Path, name: str) -> None:
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")} == set(FILES)
    flip(folder / name)
    assert main(["verify", str(folder)]) == 1
    with suppress(CardError):  # a card that cannot be read has no checks
        assert name in [check.what for check in verify(folder) if check.passed is False]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("key", ["set", "summary", "mean", "recipe", "license"])
def test_another_card(folder: Path, key: str) -> None:
    other = {"set": "in100", "summary": "Another.", "mean": [0.5, 0.4, 0.31], "recipe": {"lr": 1}, "license": "MIT"}
    config = json.loads((folder / "config.json").read_text())
    config["adios"][key] = other[key]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    failed = {check.what for check in verify(folder) if check.passed is False}
    assert {f"ONNX Runtime, {name}.onnx" for name in ("encoder", "masker", "encoder_uint8")} <= failed


def test_a_published_readme_names_its_repository(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text(text.replace("local-dir:THIS_FOLDER", "hf-hub:org/some.model-1"))
    assert all(check.passed for check in verify(folder))
    (folder / "README.md").unlink()
    assert [check.what for check in verify(folder) if not check.passed] == ["README.md"]


def test_a_graph_that_the_card_does_not_name(folder: Path) -> None:
    shutil.copy(folder / "onnx" / "encoder.onnx", folder / "onnx" / "encoder_int8.onnx")
    failed = {check.what: check.note for check in verify(folder) if check.passed is False}
    assert failed == {
        "onnx/encoder_int8.onnx": "the card does not name it",
        "ONNX Runtime, encoder_int8.onnx": "The card has no figures of it.",
    }


def test_a_converted_release_of_vit_tiny(tmp_path: Path) -> None:
    archive = release(tmp_path, "simclr_adios_imagenet100s_vit", only=("encoder.", "mask_"))
    assert main(["convert", str(archive), "-o", str(tmp_path / "m"), "--onnx"]) == 0
    assert main(["verify", str(tmp_path / "m")]) == 0
    flip(tmp_path / "m" / "onnx" / "encoder_uint8.onnx")
    assert main(["verify", str(tmp_path / "m")]) == 1


def restate(folder: Path, *names: str) -> None:
    """Put the changed files' hashes on the card, as a forger would."""
    config = json.loads((folder / "config.json").read_text())
    for name in names:
        facts = facts_of(folder / name)
        config["adios"]["files"][name] = {"bytes": facts.bytes, "sha256": facts.sha256}
    (folder / "config.json").write_text(json.dumps(config))


def convolution(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, value in tensors.items() if value.ndim == 4)


def other_weights(folder: Path) -> str:
    tensors = load_file(folder / "model.safetensors")
    tensors[convolution(tensors)][0] *= 1.2
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    restate(folder, "model.safetensors")
    return "golden features"


def other_masks(folder: Path) -> str:
    tensors = load_file(folder / "golden.safetensors")
    tensors["masks"] = torch.rand_like(tensors["masks"])
    save_file(tensors, folder / "golden.safetensors")
    restate(folder, "golden.safetensors")
    return "golden masks"


def swapped_onnx(folder: Path) -> str:
    shutil.copy(folder / "onnx" / "masker.onnx", folder / "onnx" / "encoder.onnx")
    restate(folder, "onnx/encoder.onnx")
    return "encoder.onnx"


def no_onnx(folder: Path) -> str:
    (folder / "onnx" / "encoder.onnx").write_bytes(b"no graph")
    restate(folder, "onnx/encoder.onnx")
    return "encoder.onnx"


def no_golden(folder: Path) -> str:
    (folder / "golden.safetensors").unlink()
    return "golden values"


def no_hashes(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    config["adios"]["files"] = {}
    (folder / "config.json").write_text(json.dumps(config))
    return "hashes"


@pytest.mark.parametrize("change", [other_weights, other_masks, swapped_onnx, no_onnx, no_golden, no_hashes])
def test_changes_with_hashes_to_match(folder: Path, change: Callable[[Path], str]) -> None:
    what = change(folder)
    failed = [check.what for check in verify(folder) if check.passed is False]
    assert any(what in name for name in failed)


def test_a_missing_tensor_is_the_loads_failure(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(convolution(tensors))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    restate(folder, "model.safetensors")
    (load,) = [check for check in verify(folder) if check.what == "load"]
    assert load.passed is False


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert "not a model folder" in capsys.readouterr().err
