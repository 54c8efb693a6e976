"""fp16 and int8 encoders: near enough to float32 or not written, and what the card says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from adios_zoo.export import precision as precision_module
from adios_zoo.export.compare import photographs, session
from adios_zoo.export.half import half
from adios_zoo.export.precision import fault_of, median_cosine, plan_precisions, write_precisions
from adios_zoo.export.quantise import is_static, quantise_dynamic
from adios_zoo.export.to_onnx import export, export_graph, graphs
from adios_zoo.export.verification import verify
from PIL import Image

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError, DataError, IntegrityError
from adios_zoo.models.card import PrecisionFacts, card_of_folder
from adios_zoo.models.card_texts import readme_of
from adios_zoo.models.encoder import create_encoder
from tests.conftest import DATA
from tests.models.test_card import changed
from tests.small_models import exported_model, small_model

FACTS = PrecisionFacts("m", images=10, cosine=0.999, sample_cosine=0.999, labelled=10, knn=50, knn_fp32=50.5)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("precision") / "model")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of photographs in two folders, the classes."""
    folder = tmp_path_factory.mktemp("images")
    for i, pixels in enumerate(photographs(60, (40, 48, 3), torch.uint8).numpy()):
        path = folder / f"photo{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def exporting() -> Iterator[None]:
    """The command line leaves the float32 files of a folder as they are, which saves their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adios_zoo.export.to_onnx.export", lambda model, folder: {})
        yield


@pytest.fixture(scope="module")
def lowered(float32: Path, images: Path, exporting: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with both precisions, by the command line."""
    folder = Path(shutil.copytree(float32, tmp_path_factory.mktemp("lowered") / "model"))
    call = ["export", str(float32), "-o", str(folder), "--precision", "fp16", "int8", "--quiet"]
    assert main([*call, "--calibration", str(images), "--holdout", str(images)]) == 0
    return folder


@pytest.fixture
def folder(float32: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(float32, tmp_path / "model"))


def features(path: Path, x: torch.Tensor) -> list[np.ndarray]:
    return session(path.read_bytes()).run(["features", "dense"], {"pixel_values": x.numpy()})


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_same_call_and_nearly_the_same_numbers(lowered: Path, precision: str) -> None:
    for batch in (1, 5):
        x = photographs(batch, (3, 32, 32), torch.float32)
        expected = features(lowered / "onnx" / "encoder.onnx", x)
        found = features(lowered / "onnx" / f"encoder_{precision}.onnx", x)
        for a, b in zip(expected, found, strict=True):
            assert (b.shape, b.dtype) == (a.shape, np.float32)
            assert median_cosine(a, b) > 0.995
            assert not np.array_equal(a, b)


def test_what_the_card_says(lowered: Path) -> None:
    card = card_of_folder(lowered)
    assert list(card.precisions) == ["fp16", "int8"]
    for precision, facts in card.precisions.items():
        assert f"onnx/encoder_{precision}.onnx" in card.files
        assert 0.995 < facts.cosine <= 1
        assert 0.995 < facts.sample_cosine <= 1
        assert (facts.images, facts.labelled, facts.forced) == (60, 60, False)
        assert facts.knn is not None
        metadata = {p.key: p.value for p in onnx.load(lowered / f"onnx/encoder_{precision}.onnx").metadata_props}
        assert metadata["adios.precision"] == precision
        assert metadata["adios.opset"] == "18"
        assert json.loads(metadata["adios.card"])["name"] == card.name
    assert "percentile" in card.precisions["int8"].method
    assert "| `onnx/encoder_int8.onnx` | static" in (lowered / "README.md").read_text()
    # Without lower precisions a card is what it was before there were any.
    assert "precisions" not in card.replace(precisions={}).to_dict()
    assert "ONNX encoder" not in readme_of(card.replace(precisions={}))


def test_half_keeps_sensitive_operators_in_float32(lowered: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(lowered / "onnx" / "encoder_fp16.onnx"))
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*model.graph.value_info, *model.graph.output]}
    outputs = {op: {kinds[n.output[0]] for n in model.graph.node if n.op_type == op} for op in ("Conv", "ReduceMean")}
    assert outputs == {"Conv": {onnx.TensorProto.FLOAT16}, "ReduceMean": {onnx.TensorProto.FLOAT}}
    sizes = [(lowered / "onnx" / f"encoder{p}.onnx").stat().st_size for p in ("", "_fp16")]
    assert sizes[1] < 0.6 * sizes[0]


def test_int8_is_safe_without_vnni(lowered: Path) -> None:
    model = onnx.load(lowered / "onnx" / "encoder_int8.onnx")
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    scales = {n.input[0]: n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    kernels = [name for name, w in weights.items() if w.ndim == 4]
    assert kernels
    for name in kernels:
        assert weights[name].dtype == np.int8
        assert np.abs(weights[name].astype(int)).max() <= 64  # pairs of products fit in 16 bits
        assert weights[scales[name]].shape == weights[name].shape[:1]  # one scale an output channel


def test_verify_covers_every_precision(lowered: Path, tmp_path: Path) -> None:
    checks = {c.what: c.passed for c in verify(lowered)}
    assert all(checks.values())
    assert {f"ONNX Runtime, encoder_{p}.onnx" for p in ("fp16", "int8")} < set(checks)
    copy = Path(shutil.copytree(lowered, tmp_path / "model"))
    card = card_of_folder(copy)

    def failed() -> set[str]:
        return {c.what for c in verify(copy) if c.passed is False}

    # The card claims more than the file holds; a figure below the gate; no figures.
    config = json.loads((copy / "config.json").read_text())
    for facts in ({"sample_cosine": 1.0 + 0.01}, {"cosine": 0.9}, {"knn": 1.0, "knn_fp32": 3.0}):
        int8 = card.to_dict()["precisions"]["int8"] | facts
        config["adios"]["precisions"] = card.to_dict()["precisions"] | {"int8": int8}
        (copy / "config.json").write_text(json.dumps(config))
        assert "ONNX Runtime, encoder_int8.onnx" in failed()
    del config["adios"]["precisions"]
    (copy / "config.json").write_text(json.dumps(config))
    assert {"ONNX Runtime, encoder_int8.onnx", "ONNX Runtime, encoder_fp16.onnx"} < failed()


def bad(data: bytes) -> bytes:
    """The graph with noise in its weights."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.ndim == 4:
            noise = np.random.default_rng(0).standard_normal(value.shape).astype(value.dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value + noise * value.std(), tensor.name))
    return bytes(model.SerializeToString())


def test_what_fails_its_gate_is_not_written_unless_forced(
    folder: Path, exporting: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision_module, "half", bad)
    call = ["export", str(folder), "-o", str(folder), "--precision", "fp16", "--quiet"]
    assert main(call) == 1
    assert "adios: fp16: The median cosine to float32 is" in capsys.readouterr().err
    assert not (folder / "onnx" / "encoder_fp16.onnx").exists()
    assert not card_of_folder(folder).precisions
    assert main([*call, "--force"]) == 0
    assert card_of_folder(folder).precisions["fp16"].forced
    assert "fails its gate, written by force" in (folder / "README.md").read_text()
    (check,) = [c for c in verify(folder) if c.what.endswith("encoder_fp16.onnx") and "Runtime" in c.what]
    assert check.passed
    assert "by force" in check.note


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (FACTS, ""),
        (replace(FACTS, cosine=0.9949), "median cosine"),
        (replace(FACTS, cosine=float("nan")), "median cosine"),
        (replace(FACTS, knn=49.4), "k-NN falls"),
        (replace(FACTS, knn=49.6), ""),
        (replace(FACTS, knn=60), ""),
        (replace(FACTS, knn=None, knn_fp32=None), ""),
    ],
)
def test_the_gate(facts: PrecisionFacts, words: str) -> None:
    assert fault_of(facts).find(words) >= 0
    assert bool(fault_of(facts)) == bool(words)


def test_cosines() -> None:
    a = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], np.float32)
    assert median_cosine(a, 3 * a) == pytest.approx(1)
    assert median_cosine(a, np.array([[1, 0], [2, 0], [1, -1]], np.float32)) == pytest.approx(0, abs=1e-6)
    assert median_cosine(a, np.full_like(a, np.nan)) == 0


def test_images_that_calibrate_do_not_judge(images: Path) -> None:
    plan = plan_precisions(small_model(), ["int8"], calibration=str(images))
    assert (len(plan.calibration), len(plan.held_back)) == (48, 12)
    assert not {ref.id for ref in plan.calibration} & {ref.id for ref in plan.held_back}
    # Both classes, although the source has one after the other.
    assert {ref.label for ref in plan.held_back} == {0, 1}


def test_mistakes_are_found_before_the_export(tmp_path: Path, images: Path) -> None:
    model = small_model()
    with pytest.raises(ConfigError, match="--calibration SOURCE"):
        plan_precisions(model, ["int8"])
    with pytest.raises(ConfigError, match="fp8"):
        plan_precisions(model, ["fp8"])
    with pytest.raises(DataError, match="no such file"):
        plan_precisions(model, ["fp16"], holdout=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="--precision"):
        plan_precisions(model, ["fp32"], calibration=str(images))
    assert plan_precisions(model, ["fp32"]).precisions == ()
    plan = plan_precisions(model, ["fp16"], holdout=str(images))
    with pytest.raises(IntegrityError, match="adios export"):
        write_precisions(plan, model.save_pretrained(tmp_path / "m"))


def test_a_broken_image_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        write_precisions(plan_precisions(folder, ["fp16"], holdout=str(tmp_path / "images")), folder)


def test_which_networks_are_quantised_how() -> None:
    assert is_static(create_encoder("test_resnet"))
    assert not is_static(create_encoder("test_vit"))


def test_a_transformer(tmp_path: Path) -> None:
    model = small_model(architecture="test_vit", input_size=160)
    path = tmp_path / "encoder.onnx"
    export_graph(graphs(model)["encoder"], path, {})
    x = photographs(3, (3, 160, 160), torch.float32)
    expected = features(path, x)
    for lower in (half, quantise_dynamic):
        (tmp_path / "lower.onnx").write_bytes(lower(path.read_bytes()))
        found = features(tmp_path / "lower.onnx", x)
        assert all(median_cosine(a, b) > 0.99 for a, b in zip(expected, found, strict=True))
        assert not np.array_equal(expected[0], found[0])


def test_a_cards_precisions_are_read_strictly() -> None:
    from adios_zoo.errors import CardError
    from adios_zoo.models.card import parse_card

    facts = {"method": "m", "images": 1, "cosine": 1.0, "sample_cosine": 1.0}
    assert parse_card(changed(precisions={"fp16": facts}), what="c").precisions["fp16"].cosine == 1
    for wrong in ({"fp8": facts}, {"fp16": facts | {"cosin": 1}}, {"fp16": {"method": "m"}}):
        with pytest.raises(CardError, match="precisions"):
            parse_card(changed(precisions=wrong), what="c")


@pytest.mark.skipif(not DATA.is_dir(), reason="ADIOS_DATA names no folder with real images")
def test_the_bundled_model_on_real_images(tmp_path: Path) -> None:
    images = f"parquet:{DATA}/tiny-imagenet/train-00000-of-*.parquet"
    export("resnet18_tin200", tmp_path)
    (outcome,) = write_precisions(plan_precisions(tmp_path, ["int8"], calibration=images), tmp_path).values()
    assert outcome.written
    assert outcome.facts.images == 128
    assert outcome.facts.cosine > 0.999
