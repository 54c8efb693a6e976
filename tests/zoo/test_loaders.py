"""One folder, many loaders: ours, timm, transformers, torchvision, torch.hub; all give the same features."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

import adios_zoo
from adios_zoo.models.model import AdiosModel
from tests.conftest import ROOT
from tests.server import Hub, running
from tests.small_models import saved_model
from tests.zoo.test_fetch import hub_cache, point_to, put  # noqa: F401

KINDS = {
    "resnet": {"architecture": "resnet18"},
    "vit": {"architecture": "test_vit", "model_args": {"img_size": 32}},
}


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp(request.param) / "m", **KINDS[request.param])


@pytest.fixture
def model(folder: Path) -> AdiosModel:
    return adios_zoo.load_model(folder)


@pytest.fixture
def image() -> Image.Image:
    return Image.effect_noise((70, 50), 80).convert("RGB")


@pytest.fixture
def x(model: AdiosModel, image: Image.Image) -> torch.Tensor:
    return model.transform(image)[None]


@pytest.fixture
def features(model: AdiosModel, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(x)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape
    assert a.std() > 0
    assert (a - b).abs().max() < 1e-5


@pytest.fixture(params=["local-dir", "hf-hub"])
def timm_name(
    request: pytest.FixtureRequest,
    folder: Path,
    hub_cache: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    if request.param == "local-dir":
        return f"local-dir:{folder}"
    put(hub_cache, folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return "hf-hub:org/model"


def test_ours(timm_name: str, x: torch.Tensor, features: torch.Tensor) -> None:
    same(adios_zoo.load_model(timm_name)(x), features)
    same(AdiosModel.from_pretrained(timm_name)(x), features)


def test_timm(timm_name: str, model: AdiosModel, x: torch.Tensor, features: torch.Tensor, image: Image.Image) -> None:
    theirs = timm.create_model(timm_name, pretrained=True).eval()
    same(theirs(x), features)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    same(transform(image)[None], x)


def test_timm_with_a_new_head(timm_name: str, model: AdiosModel, x: torch.Tensor, features: torch.Tensor) -> None:
    theirs = timm.create_model(timm_name, pretrained=True, num_classes=10).eval()
    assert theirs(x).shape == (1, 10)
    same(theirs.forward_head(theirs.forward_features(x), pre_logits=True), features)


def test_timm_features_only(timm_name: str, model: AdiosModel, x: torch.Tensor) -> None:
    theirs = timm.create_model(timm_name, pretrained=True, features_only=True).eval()
    ours = model.forward_intermediates(x, intermediates_only=True)
    maps = theirs(x)
    assert len(maps) >= 3
    same(maps[0], ours[-len(maps)])
    if model.card.architecture == "resnet18":  # of a ViT's last map one of the two is normalised
        same(maps[-1], ours[-1])


def test_timm_with_grey_images(timm_name: str, model: AdiosModel, x: torch.Tensor) -> None:
    theirs = timm.create_model(timm_name, pretrained=True, in_chans=1).eval()
    grey = x[:, :1]
    same(theirs(grey), model(grey.expand(-1, 3, -1, -1)))  # timm adds the filters of the three channels


@pytest.fixture
def transformers_source(folder: Path) -> str:
    pytest.importorskip("transformers")
    return str(folder)


def test_transformers(
    transformers_source: str, model: AdiosModel, x: torch.Tensor, features: torch.Tensor, image: Image.Image
) -> None:
    from transformers import AutoImageProcessor, AutoModel

    theirs = AutoModel.from_pretrained(transformers_source).eval()
    pixels = AutoImageProcessor.from_pretrained(transformers_source)(image, return_tensors="pt")["pixel_values"]
    same(pixels, x)
    with torch.inference_mode():
        out = theirs(pixels)
    same(out.pooler_output, features)
    same(out.last_hidden_state, model.forward_features(x))


def test_transformers_pipeline(transformers_source: str, features: torch.Tensor, image: Image.Image) -> None:
    from transformers import pipeline

    extract = pipeline("image-feature-extraction", model=transformers_source, device="cpu")
    same(torch.tensor(extract(image, pool=True)), features)


def test_transformers_from_a_server(
    folder: Path,
    hub_cache: Path,  # noqa: F811
    features: torch.Tensor,
    image: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformers = pytest.importorskip("transformers")
    hub = Hub("org/model", {p.name: p.read_bytes() for p in folder.iterdir()})
    with running(hub) as address:
        point_to(monkeypatch, address)
        extract = transformers.pipeline("image-feature-extraction", model="org/model", device="cpu")
        same(torch.tensor(extract(image, pool=True)), features)


def test_torchvision(model: AdiosModel, folder: Path, x: torch.Tensor, features: torch.Tensor) -> None:
    if model.card.architecture != "resnet18":
        pytest.skip("torchvision's ViT has other names")
    theirs = torchvision.models.resnet18()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(load_file(folder / "model.safetensors"))
    same(theirs.eval()(x), features)


def test_torch_hub() -> None:
    """The bundled model; test_torch_hub.py and test_fetch.py do it from other folders and with fetched ones."""
    root = str(ROOT)
    theirs = torch.hub.load(root, "resnet18_tin200", source="local")
    x = torch.randn(1, 3, 64, 64)
    same(theirs(x), adios_zoo.load_model("resnet18_tin200")(x))
