"""ONNX files: the same numbers as torch, the card inside, and a verifier that notices a wrong graph."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from adios_zoo.export.compare import photographs, session, worst_difference
from adios_zoo.export.to_onnx import BATCHES, check_graph, export, export_graph, graphs
from PIL import Image

from adios_zoo.errors import BackendError, ConfigError, IntegrityError
from adios_zoo.images.image import read_image
from adios_zoo.models.card import card_of_folder
from adios_zoo.models.model import AdiosModel
from adios_zoo.zoo.load import load_model
from tests.small_models import small_card, small_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    source = small_model().save_pretrained(folder / "source")
    differences = export(source, folder / "model")
    assert set(differences) == {"encoder", "masker", "encoder_uint8"}
    assert all(0 <= d < 1e-4 for d in differences.values())
    return folder / "model"


@pytest.mark.parametrize("batch", [*BATCHES, 5])
def test_encoder_and_masker(exported: Path, batch: int) -> None:
    model = load_model(exported)
    x = photographs(batch, (3, 32, 32), torch.float32)
    runtime = session((exported / "onnx" / "encoder.onnx").read_bytes())
    features, dense = runtime.run(["features", "dense"], {"pixel_values": x.numpy()})
    masks = session((exported / "onnx" / "masker.onnx").read_bytes()).run(["masks"], {"pixel_values": x.numpy()})[0]
    with torch.inference_mode():
        assert worst_difference(model(x).numpy(), features) < 1e-4
        assert worst_difference(model.forward_features(x).numpy(), dense) < 1e-4
        assert worst_difference(model.masks(x).numpy(), masks) < 1e-4


@pytest.mark.parametrize("size", [(40, 40), (61, 90), (133, 47)])
def test_bytes_of_any_size_go_in(exported: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    model = load_model(exported)
    pixels = photographs(2, (*size, 3), torch.uint8).numpy()
    runtime = session((exported / "onnx" / "encoder_uint8.onnx").read_bytes())
    features = runtime.run(["features"], {"image": pixels})[0]
    for row, image in zip(features, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / "a.png")
        with torch.inference_mode():
            plain = model(model.transform(read_image(tmp_path / "a.png"))[None])[0].numpy()
        cosine = float(row @ plain / np.linalg.norm(row) / np.linalg.norm(plain))
        assert cosine > 0.999


def test_the_files_say_what_they_are(exported: Path) -> None:
    card = card_of_folder(exported)
    assert {"onnx/encoder.onnx", "onnx/masker.onnx", "onnx/encoder_uint8.onnx"} < set(card.files)
    for path in (exported / "onnx").iterdir():
        model = onnx.load(path)
        metadata = {p.key: p.value for p in model.metadata_props}
        inside, beside = json.loads(metadata["adios.card"]), json.loads(json.dumps(card.to_dict()))
        assert inside == beside | {"files": {}}
        assert metadata["adios.opset"] == "18"
        assert model.opset_import[0].version == 18
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not list(exported.rglob("*.data"))


def test_a_wrong_graph_is_noticed_and_not_written(exported: Path, tmp_path: Path) -> None:
    right, wrong = graphs(small_model())["encoder"], graphs(small_model())["encoder"]
    with torch.no_grad():
        next(p for p in wrong.module.parameters() if p.ndim == 4)[0] *= 1.05
    data = (exported / "onnx" / "encoder.onnx").read_bytes()
    assert check_graph(right, data) < 1e-4
    with pytest.raises(IntegrityError, match="features differ"):
        check_graph(wrong, data)

    class Random(torch.nn.Module):
        """Gives another result at every call, so that no export of it can be right."""

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values.mean(dim=(2, 3)) + torch.rand(1)

    with pytest.raises((IntegrityError, BackendError)):
        export_graph(replace(right, module=Random(), outputs=("features",)), tmp_path / "a.onnx", {})
    assert not list(tmp_path.iterdir())


def test_another_models_folder_is_not_filled(exported: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = AdiosModel(small_card()).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="another model"):
        export(exported, other)
    assert not (other / "onnx").exists()


def test_saving_another_model_removes_the_graphs_of_the_last(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "m"))
    small_model().save_pretrained(folder)
    assert not list((folder / "onnx").glob("*.onnx"))


def test_what_torch_cannot_export_is_one_sentence(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values if float(pixel_values.sum()) > 0 else -pixel_values

    graph = replace(graphs(small_model())["masker"], module=Branching())
    with pytest.raises(BackendError, match="cannot export Branching") as caught:
        export_graph(graph, tmp_path / "a.onnx", {})
    assert len(str(caught.value).splitlines()) == 1


# Small siblings of resnet50, ViT, ConvNeXt and Swin: the same blocks, fewer of them.
SIBLINGS = [
    ("resnet50", 64, {"layers": [1, 1, 1, 1]}),
    ("test_vit", 160, {}),
    ("test_convnext", 32, {}),
    ("swin_tiny_patch4_window7_224", 56, {"img_size": 56, "depths": [1, 2], "num_heads": [2, 4], "embed_dim": 32}),
]


@pytest.mark.parametrize(("architecture", "size", "arguments"), SIBLINGS)
def test_other_architectures(tmp_path: Path, architecture: str, size: int, arguments: dict[str, Any]) -> None:
    model = small_model(architecture=architecture, input_size=size, model_args=arguments)
    graph = graphs(model)["encoder"]
    assert export_graph(graph, tmp_path / "encoder.onnx", {}) < 1e-4
    with torch.inference_mode():
        features, dense = graph.module(photographs(2, (3, size, size), torch.float32))
    assert dense.ndim == 4
    assert dense.shape[:2] == features.shape


def test_an_architecture_without_a_dense_map_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    forward = type(model.encoder).forward_head
    monkeypatch.setattr(type(model.encoder), "forward_head", lambda self, x, **kw: 2 * forward(self, x, **kw))
    monkeypatch.setattr(type(model.encoder), "forward", lambda self, x: forward(self, self.forward_features(x)))
    with pytest.raises(BackendError, match="test_resnet cannot be exported: what timm pools"):
        graphs(model)
    monkeypatch.delattr(type(model.encoder), "forward_intermediates")
    with pytest.raises(BackendError, match="test_resnet cannot be exported: timm gives it no dense map"):
        graphs(model)


def test_a_model_in_memory_and_a_model_in_training(tmp_path: Path) -> None:
    model = small_model()
    export(model, tmp_path / "m")
    export(model, tmp_path / "m")  # the folder holds this model already
    assert (tmp_path / "m" / "onnx" / "encoder.onnx").is_file()
    torch.manual_seed(9)
    with pytest.raises(ConfigError, match="another model than this test_resnet"):
        export(AdiosModel(small_card()), tmp_path / "m")


def test_differences() -> None:
    a = np.array([1.0, -4.0])
    assert worst_difference(a, a + np.array([0.0, 0.4])) == pytest.approx(0.1)
    assert worst_difference(a, a[:1]) == float("inf")
    assert worst_difference(a, np.array([np.nan, 0])) == float("inf")
