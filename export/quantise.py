"""A float32 graph in 8-bit integers, by ONNX Runtime's own quantiser.

Weights are signed, per output channel, and have seven bits: CPUs without VNNI add pairs of products of unsigned
activations and signed weights in 16 bits, which eight-bit weights overflow.  Unsigned weights of eight bits come a
little nearer to float32, but run no faster than it there.

Convolutional networks are quantised statically: calibration images give each activation its range.  In transformers
activations have rare large values, so that one range for all images serves badly; there each input of a matrix
product gets its range as it comes.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

PERCENTILE = 99.999  # of absolute activations that the range holds


def is_static(encoder: nn.Module) -> bool:
    """Whether the encoder is quantised statically: most of its weights are in convolutions."""
    convolutions = sum(m.weight.numel() for m in encoder.modules() if isinstance(m, nn.Conv2d))
    products = sum(m.weight.numel() for m in encoder.modules() if isinstance(m, nn.Linear))
    return convolutions >= products


def method(calibration: int) -> str:
    """What was done, in words, with so many calibration images; 0 is dynamic quantisation."""
    if not calibration:
        return "dynamic 8-bit matrix products, weights per channel in 7 bits"
    return f"static QDQ, weights per channel in 7 bits, percentile {PERCENTILE:g} of {calibration} images"


def quantise_static(data: bytes, batches: Sequence[NDArray[np.float32]]) -> bytes:
    """A serialised model with QuantizeLinear and DequantizeLinear nodes about its operators.

    Args:
        data: a float32 model with the input ``pixel_values``.
        batches: calibration images, each (B, 3, S, S).
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with _files(data) as (source, target):
        quantize_static(
            source,
            target,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            # One batch's activations in memory at a time.
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
        return target.read_bytes()


def quantise_dynamic(data: bytes) -> bytes:
    """A serialised model whose products with constant matrices are computed in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _files(data) as (source, target):
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


class _Batches:
    """Calibration batches in the form that the quantiser reads them in."""

    def __init__(self, batches: Sequence[NDArray[np.float32]]) -> None:
        self._batches = batches
        self.set_range(0, len(batches))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._left, None)
        return None if batch is None else {"pixel_values": batch}


@contextmanager
def _files(data: bytes) -> Iterator[tuple[Path, Path]]:
    """A file with the model and one to be made; within, the quantiser is silent."""
    level = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        source = Path(folder) / "float32.onnx"
        source.write_bytes(data)
        logging.disable(logging.WARNING)
        try:
            yield source, Path(folder) / "int8.onnx"
        finally:
            logging.disable(level)
