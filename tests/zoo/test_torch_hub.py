"""torch.hub from a bare clone: from any folder, without the package installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import adios_zoo
from adios_zoo.zoo.torch_hub import entries
from tests.conftest import ROOT


def test_every_name_is_an_entry_with_a_docstring() -> None:
    found = entries()
    assert sorted(found) == adios_zoo.list_models()
    for name, entry in found.items():
        assert entry.__name__ == name
        assert adios_zoo.card(name).summary in (entry.__doc__ or "")


def test_what_hubconf_shows() -> None:
    module = torch.hub._import_module("hubconf", str(ROOT / "hubconf.py"))
    public = {n for n in dir(module) if callable(getattr(module, n)) and not n.startswith("_")}
    assert public == set(adios_zoo.list_models())
    assert all("Returns:" in getattr(module, n).__doc__ for n in public)
    assert {"torch", "timm", "safetensors", "tqdm", "filelock"} <= set(module.dependencies)


SCRIPT = """
import sys
# A checkout alone: nothing of the package may come from an installed or editable copy.
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path[:] = [p for p in sys.path if p]
import torch
m = torch.hub.load(CLONE, NAME, source="local", pretrained=PRETRAINED)
from PIL import Image
x = m.transform(Image.new("RGB", (300, 200), "red"))[None]
with torch.inference_mode():
    features, masks = m(x), m.masks(x)
assert features.shape == (1, 512) and masks.shape[0] == 1, (features.shape, masks.shape)
assert (masks.sum(1) - 1).abs().max() < 1e-5
assert m.card.name.startswith(NAME)
assert m.forward_intermediates(x)[0].shape[1] == 512
import adios_zoo
assert adios_zoo.__file__.startswith(CLONE), adios_zoo.__file__
torch.save(features, "features.pt")
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files alone, in a folder of the name that the README shows."""
    target = tmp_path_factory.mktemp("clone") / "adios"
    for folder in ("adios_zoo", "train", "export"):
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("hubconf.py", "pyproject.toml"):
        shutil.copy(ROOT / file, target / file)
    return target


@pytest.mark.parametrize(("name", "pretrained"), [("resnet18_tin200", True), ("resnet18_in100", False)])
def test_from_another_folder(clone: Path, tmp_path: Path, name: str, pretrained: bool) -> None:
    script = f"CLONE, NAME, PRETRAINED = {str(clone)!r}, {name!r}, {pretrained}\n{SCRIPT}"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if pretrained:
        from PIL import Image

        model = adios_zoo.load_model(name)
        x = model.transform(Image.new("RGB", (300, 200), "red"))[None]
        with torch.inference_mode():
            assert (model(x) - torch.load(tmp_path / "features.pt")).abs().max() < 1e-6


def test_the_short_form(clone: Path, tmp_path: Path) -> None:
    script = (
        "import torch; print(torch.hub.load('adios', 'resnet18_in100', source='local', pretrained=False).card.name)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=clone.parent, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "resnet18_in100_byol", done.stderr
