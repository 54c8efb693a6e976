"""Model folders: saved, loaded by this package and by timm, and refused when anything is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import adios_zoo
from adios_zoo.errors import BackendError, CardError, ConfigError, IntegrityError, UnknownModelError
from adios_zoo.models.card import card_of_folder
from adios_zoo.models.card_texts import config_of, readme_of
from adios_zoo.models.encoder import create_encoder, feature_width
from adios_zoo.models.model import AdiosModel
from adios_zoo.zoo.load import load_model
from tests.small_models import saved_model, small_model


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    model = small_model()
    folder = model.save_pretrained(tmp_path / "m")
    x = torch.randn(2, 3, 32, 32)
    for source in (folder, str(folder), f"local-dir:{folder}"):
        loaded = adios_zoo.load_model(source)
        assert not loaded.training
        assert torch.equal(loaded(x), model(x))
        assert torch.equal(loaded.masks(x), model.masks(x))
    assert torch.equal(AdiosModel.from_pretrained(folder)(x), model(x))
    assert loaded.card.name == model.card.name


def test_timm_loads_the_folder(tmp_path: Path) -> None:
    model = small_model()
    folder = model.save_pretrained(tmp_path / "m")
    x = torch.randn(2, 3, 32, 32)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(theirs(x), model(x))
    config = timm.data.resolve_model_data_config(theirs)
    assert tuple(config["input_size"]) == (3, 32, 32)
    assert tuple(config["mean"]) == (0.5, 0.4, 0.3)
    image = Image.effect_noise((70, 50), 80).convert("RGB")
    assert torch.equal(timm.data.create_transform(**config)(image), model.transform(image))
    assert timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=10)(x).shape == (2, 10)


def test_half_precision_weights_load_as_float32(tmp_path: Path) -> None:
    model = small_model()
    folder = model.save_pretrained(tmp_path / "m", dtype=torch.float16)
    stored = load_file(folder / "model.safetensors")
    assert {v.dtype for v in stored.values()} == {torch.float16, torch.int64}
    loaded = load_model(folder)
    x = torch.randn(2, 3, 32, 32)
    assert loaded(x).dtype == torch.float32
    assert torch.allclose(loaded(x), model(x), rtol=1e-2, atol=1e-2)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.allclose(theirs(x), loaded(x), atol=1e-6)


def test_golden_values_are_those_of_the_stored_weights(tmp_path: Path) -> None:
    folder = small_model().save_pretrained(tmp_path / "m", dtype=torch.float16)
    golden = load_file(folder / "golden.safetensors")
    model = load_model(folder)
    with torch.inference_mode():
        assert torch.allclose(model(golden["pixel_values"]), golden["features"], atol=1e-5)
        assert torch.allclose(model.masks(golden["pixel_values"]), golden["masks"], atol=1e-5)
    assert golden["features"].std() > 0


def test_dense_and_intermediate_features(tmp_path: Path) -> None:
    model = small_model()
    x = torch.randn(2, 3, 64, 48)
    dense = model.forward_features(x)
    assert dense.shape[0] == 2
    assert dense.ndim == 4
    assert torch.allclose(dense.mean(dim=(2, 3)), model(x), atol=1e-5)
    final, maps = model.forward_intermediates(x)
    assert torch.equal(final, dense)
    assert len(maps) > 2
    assert len(model.forward_intermediates(x, indices=2, intermediates_only=True)) == 2


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_any_timm_backbone(architecture: str) -> None:
    encoder = create_encoder(architecture).eval()
    size = 224 if "vit" in architecture else 64
    assert encoder(torch.randn(1, 3, size, size)).shape == (1, feature_width(encoder))


def test_masks_of_other_sizes() -> None:
    masks = small_model().masks(torch.randn(2, 3, 50, 70))
    assert masks.shape == (2, 3, 50, 70)
    assert (masks.sum(1) - 1).abs().max() < 1e-5


def test_transform_takes_any_mode(tmp_path: Path) -> None:
    transform = small_model().transform
    for mode in ("L", "RGBA", "CMYK", "P", "I;16"):
        assert transform(Image.new(mode, (60, 41))).shape == (3, 32, 32)


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="did you mean resnet18_tin200"):
        load_model("resnet18_tin20")
    with pytest.raises(UnknownModelError, match="no model folder"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(CardError, match="not a model folder"):
        load_model(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        create_encoder("resnet118")
    with pytest.raises(ConfigError, match="model_args"):
        create_encoder("test_resnet", wings=2)
    with pytest.raises(BackendError, match="not available"):
        load_model(saved_model(tmp_path / "m"), device="cuda:77")


def test_a_release_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path))
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    monkeypatch.delenv("ADIOS_ZOO_MIRROR", raising=False)
    with pytest.raises(adios_zoo.AdiosError, match="adios convert"):
        load_model("resnet18_in100")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "masker.safetensors"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    folder = saved_model(tmp_path / "m")
    flip_a_byte(folder / name)
    with pytest.raises(IntegrityError, match="SHA-256"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=f"has no {name}"):
        load_model(folder)


def without_hashes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["adios"]["files"] = {}
    (folder / "config.json").write_text(json.dumps(config))


def test_wrong_tensors_are_refused_without_hashes_too(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m")
    without_hashes(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(k for k in tensors if k.endswith("weight"))
    for change in ("missing", "extra", "shape", "truncated"):
        changed = dict(tensors)
        if change == "missing":
            del changed[name]
        elif change == "extra":
            changed["fc.weight"] = torch.zeros(3)
        elif change == "shape":
            changed[name] = changed[name][:1].clone()
        save_file(changed, path)
        if change == "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(IntegrityError):
            load_model(folder)


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = saved_model(tmp_path / "m")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "golden.safetensors",
        "masker.safetensors",
        "model.safetensors",
    }


def test_the_folders_readme_and_config_are_made_from_the_card(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", training={"images": 7})
    card = card_of_folder(folder)
    assert (folder / "README.md").read_text() == readme_of(card)
    assert json.loads((folder / "config.json").read_text()) == json.loads(json.dumps(config_of(card)))


def test_model_args_reach_the_backbone(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m", architecture="test_vit", model_args={"img_size": 32})
    x = torch.randn(2, 3, 32, 32)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(load_model(folder)(x), theirs(x))
