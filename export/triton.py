"""A model repository for Triton Inference Server.

``DIR/encoder/``, ``DIR/masker/`` and ``DIR/encoder_uint8/``, and one for each further precision of the encoder, each
with ``config.pbtxt`` and ``1/model.onnx``.  ``encoder_uint8`` does what an ensemble of preprocessing and encoder would.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adios_zoo.errors import BackendError
from adios_zoo.files import replacing, write_text
from adios_zoo.models.card import ONNX_FOLDER, check_facts, onnx_encoder
from adios_zoo.zoo.fetch import locate

from .to_onnx import export

MAX_BATCH = 64
QUEUE_MICROSECONDS = 2000  # that a request waits for others to share its batch

_TYPES = {"FLOAT": "TYPE_FP32", "UINT8": "TYPE_UINT8"}


def write_layout(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write a model repository, in which other models may lie.

    Args:
        source: of the model, see :func:`adios_zoo.load_model`.  ONNX files that its folder has are taken, in all
            precisions; others are made and compared with torch.
        folder: of the repository.

    Returns:
        The folders of the models.

    Raises:
        BackendError: onnx is missing, or the architecture cannot be exported.
        IntegrityError: an ONNX file is not the one that its card describes.
    """
    card, there = locate(os.fspath(source))
    if onnx_encoder("fp32") not in card.files:
        with tempfile.TemporaryDirectory() as scratch:
            export(source, scratch)
            return write_layout(f"local-dir:{scratch}", folder)
    written = []
    for name in sorted(card.files):
        if not name.startswith(f"{ONNX_FOLDER}/"):
            continue
        path = there / name
        check_facts(path, card.files[name])
        out, data = Path(folder) / path.stem, path.read_bytes()
        with replacing(out / "1" / "model.onnx") as file:
            file.write(data)
        write_text(out / "config.pbtxt", config_of_graph(path.stem, data))
        written.append(out)
    return written


def config_of_graph(name: str, data: bytes) -> str:
    """``config.pbtxt`` of a serialised ONNX model: its inputs and outputs, batched as requests come."""
    try:
        import onnx
    except ImportError as error:
        raise BackendError('Export needs onnx and onnxscript: pip install "adios-zoo[onnx]".') from error
    graph = onnx.load_from_string(data).graph
    kinds = {value: name for name, value in onnx.TensorProto.DataType.items()}

    def tensors(field: str, values: Iterable[Any]) -> str:
        entries = []
        for value in values:
            tensor = value.type.tensor_type
            # The batch is Triton's own; -1 is any length.
            sides = ", ".join(str(d.dim_value or -1) for d in tensor.shape.dim[1:])
            kind = _TYPES[kinds[tensor.elem_type]]
            entries.append(f'  {{ name: "{value.name}" data_type: {kind} dims: [ {sides} ] }}')
        return f"{field} [\n" + ",\n".join(entries) + "\n]"

    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "onnxruntime"',
            f"max_batch_size: {MAX_BATCH}",
            tensors("input", graph.input),
            tensors("output", graph.output),
            "instance_group [\n  { count: 1 kind: KIND_AUTO }\n]",
            f"dynamic_batching {{\n  max_queue_delay_microseconds: {QUEUE_MICROSECONDS}\n}}",
            "",
        ]
    )
