"""The model repository, read by Triton's own schema and by ONNX."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from adios_zoo.export.half import half
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from adios_zoo.cli import main
from adios_zoo.errors import IntegrityError
from adios_zoo.models.card import card_of_folder
from adios_zoo.models.model import write_card
from tests.small_models import exported_model, saved_model

TYPES = {
    onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32,
    onnx.TensorProto.UINT8: model_config_pb2.TYPE_UINT8,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = exported_model(tmp_path_factory.mktemp("triton") / "model")
    extra = folder / "onnx" / "encoder_fp16.onnx"
    extra.write_bytes(half((folder / "onnx" / "encoder.onnx").read_bytes()))
    write_card(card_of_folder(folder), folder, also=[extra])
    return folder


def test_a_repository(model: Path, tmp_path: Path) -> None:
    (tmp_path / "others" / "1").mkdir(parents=True)
    assert main(["export", str(model), "-o", str(tmp_path), "--layout", "triton"]) == 0
    names = {"encoder", "masker", "encoder_uint8", "encoder_fp16"}
    assert {p.name for p in tmp_path.iterdir()} == {*names, "others"}
    for name in names:
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["1", "config.pbtxt"]
        path = tmp_path / name / "1" / "model.onnx"
        assert path.read_bytes() == (model / "onnx" / f"{name}.onnx").read_bytes()
        config = text_format.Parse((tmp_path / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert (config.name, config.backend) == (name, "onnxruntime")
        assert config.max_batch_size > 1
        assert config.HasField("dynamic_batching")
        (group,) = config.instance_group
        assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO
        graph = onnx.load(path).graph
        for stated, tensors in ((config.input, graph.input), (config.output, graph.output)):
            for s, tensor in zip(stated, tensors, strict=True):
                batch, *sides = tensor.type.tensor_type.shape.dim
                assert (s.name, s.data_type) == (tensor.name, TYPES[tensor.type.tensor_type.elem_type])
                assert batch.dim_param  # of any size, as max_batch_size says
                assert list(s.dims) == [side.dim_value if side.HasField("dim_value") else -1 for side in sides]


def test_a_model_without_onnx_files(tmp_path: Path) -> None:
    source = saved_model(tmp_path / "m")
    assert main(["export", str(source), "-o", str(tmp_path / "r"), "--layout", "triton"]) == 0
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"encoder", "masker", "encoder_uint8"}
    assert not (source / "onnx").exists()


def test_a_damaged_file_is_not_laid_out(model: Path, tmp_path: Path) -> None:
    from adios_zoo.export.triton import write_layout

    copy = Path(shutil.copytree(model, tmp_path / "m"))
    with (copy / "onnx" / "masker.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(IntegrityError, match=r"masker\.onnx"):
        write_layout(copy, tmp_path / "r")


def test_precisions_come_from_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["export", "resnet18_tin200", "-o", str(tmp_path / "r"), "--layout", "triton", "--precision", "fp16"]
    assert main(call) == 2
    assert "then lay out FOLDER" in capsys.readouterr().err
