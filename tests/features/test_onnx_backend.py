"""The ONNX Runtime encoder: torch's numbers without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from adios_zoo import FeatureExtractor
from adios_zoo.cli import main
from adios_zoo.errors import BackendError, IntegrityError
from adios_zoo.features.onnx_backend import OnnxEncoder
from adios_zoo.features.read_file import read_features
from adios_zoo.models.card import card_of_folder
from adios_zoo.models.model import write_card
from adios_zoo.zoo.load import load_model
from tests.small_models import exported_model, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("runtime") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, size in enumerate([(50, 70), (33, 33), (120, 41), (64, 64), (90, 91)]):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(out / f"{i}.png")
    Image.open(out / "1.png").convert("L").save(out / "grey.png")
    return out


def test_same_features_as_torch(folder: Path, photos: Path) -> None:
    expected = FeatureExtractor(folder, device="cpu").extract(photos)
    found = FeatureExtractor(folder, backend="onnx").extract(photos)
    assert found.shape == expected.shape == (6, expected.shape[1])
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.parametrize(
    "changes", [{}, {"crop_mode": "squash"}, {"interpolation": "bicubic"}, {"crop_pct": 0.51}, {"crop_pct": 1.0}]
)
def test_same_transform_as_torch(folder: Path, photos: Path, changes: dict[str, object]) -> None:
    encoder = OnnxEncoder(folder)
    encoder.card = encoder.card.replace(**changes)
    plain = small_model(**changes).transform
    for path in sorted(photos.iterdir()):
        with Image.open(path) as image:
            assert np.abs(encoder.transform(image) - plain(image).numpy()).max() < 1e-5


def test_the_call_is_the_encoders(folder: Path) -> None:
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        expected = load_model(folder)(x).numpy()
    assert np.abs(OnnxEncoder(folder, threads=1)(x.numpy()) - expected).max() / np.abs(expected).max() < 1e-4


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""
# Neither torch nor what makes a short run slow.
ABSENT = """
heavy = {"torch", "torchvision", "timm", "pandas", "sklearn", "huggingface_hub", "onnx"} & set(sys.modules)
assert not heavy, heavy
"""
SCRIPT = f"""{BLOCKED}
from adios_zoo import FeatureExtractor
print(FeatureExtractor(FOLDER, backend="onnx").extract(PHOTOS).shape[0])
{ABSENT}"""


def test_without_torch(folder: Path, photos: Path) -> None:
    script = f"FOLDER, PHOTOS = {str(folder)!r}, {str(photos)!r}\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "6", done.stderr


def test_the_command_line(folder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    assert main(["extract", str(photos), "-o", str(out), "--model", str(folder), "--backend", "onnx", "--quiet"]) == 0
    assert len(read_features(out)[0]) == 6


def test_a_provider_that_is_not_there(folder: Path) -> None:
    with pytest.raises(BackendError, match="onnxruntime on macOS"):
        OnnxEncoder(folder, provider="coreml")
    with pytest.warns(UserWarning, match="CPU is taken instead"):
        encoder = OnnxEncoder(folder, provider="coreml", fallback=True)
    assert encoder.provider == "cpu"
    with pytest.raises(BackendError, match="one of cpu, cuda"):
        OnnxEncoder(folder, provider="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_never_falls_back_in_silence(folder: Path) -> None:
    with pytest.raises(BackendError, match="NVIDIA driver"):
        OnnxEncoder(folder, provider="cuda")


def test_both_packages_installed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1.0")
    with pytest.warns(UserWarning, match="overwrite each other"):
        OnnxEncoder(folder)


def test_threads_are_the_usable_cores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    session = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, providers: list[str]) -> object:
        seen.append(options.intra_op_num_threads)
        return session(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    monkeypatch.setattr("adios_zoo.features.onnx_backend.usable_cpus", lambda: 1)
    OnnxEncoder(folder)
    assert seen == [1]


def test_what_is_missing_or_damaged(folder: Path, tmp_path: Path) -> None:
    bare = small_model().save_pretrained(tmp_path / "bare")
    with pytest.raises(BackendError, match=f"adios export {bare}"):
        OnnxEncoder(bare)
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    data = bytearray((damaged / "onnx" / "encoder.onnx").read_bytes())
    data[1000] ^= 1
    (damaged / "onnx" / "encoder.onnx").write_bytes(data)
    with pytest.raises(IntegrityError, match="SHA-256"):
        OnnxEncoder(damaged)
    with pytest.raises(BackendError, match="folder"):
        FeatureExtractor(small_model(), backend="onnx")
    with pytest.raises(BackendError, match="'fp32', 'fp16', 'int8'"):
        FeatureExtractor(folder, backend="onnx", precision="bf16")
    with pytest.raises(BackendError, match=f"encoder_int8.onnx; .*adios export {folder} -o FOLDER --precision int8"):
        FeatureExtractor(folder, backend="onnx", precision="int8")


def test_a_precision_has_its_own_file(folder: Path, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    model = onnx.load(copy / "onnx" / "encoder.onnx")
    scale = model.graph.node.add(op_type="Mul", input=["features_before", "two"], output=["features"])
    for node in model.graph.node[:-1]:
        for names in (node.input, node.output):
            names[:] = ["features_before" if name == "features" else name for name in names]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), "two"))
    assert scale.op_type == "Mul"
    onnx.save(model, copy / "onnx" / "encoder_int8.onnx")
    with pytest.raises(IntegrityError, match="not a file that its card names"):
        OnnxEncoder(copy, precision="int8")
    write_card(card_of_folder(copy), copy, also=[copy / "onnx" / "encoder_int8.onnx"])
    plain = FeatureExtractor(copy, backend="onnx").extract(photos)
    np.testing.assert_allclose(FeatureExtractor(copy, backend="onnx", precision="int8").extract(photos), 2 * plain)


def test_bound_inputs_and_outputs_give_the_same(folder: Path) -> None:
    encoder = OnnxEncoder(folder)
    x = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    expected = encoder(x)
    encoder._memory = "cpu"  # what is done for "cuda" where there is one
    np.testing.assert_array_equal(encoder(x), expected)


def test_lanes_share_the_cores(folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adios_zoo.features.onnx_backend.usable_cpus", lambda: 6)
    encoder = OnnxEncoder(folder, lanes=3)
    assert encoder.session.get_session_options().intra_op_num_threads == 2


def test_the_command_line_without_torch(folder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    arguments = ["extract", str(photos), "-o", str(out), "--model", str(folder), "--backend", "onnx", "--quiet"]
    script = f"{BLOCKED}from adios_zoo.cli import main\nassert main({arguments!r}) == 0\n{ABSENT}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_features(out)[0]) == 6
