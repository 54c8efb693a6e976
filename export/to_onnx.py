"""Encoder and masker as ONNX files that have been compared with torch before they get their names.

============================  ======================================  ======================================
file                          input                                   outputs
============================  ======================================  ======================================
``onnx/encoder.onnx``         ``pixel_values`` (B, 3, S, S) float32   ``features`` (B, D), ``dense`` (B, C, h, w)
``onnx/masker.onnx``          ``pixel_values`` (B, 3, S, S) float32   ``masks`` (B, N, S, S)
``onnx/encoder_uint8.onnx``   ``image`` (B, H, W, 3) uint8, any size  ``features`` (B, D)
============================  ======================================  ======================================

``pixel_values`` are normalised as the card says; ``encoder_uint8`` holds resize, crop and normalisation itself.
The metadata of each file hold the card as JSON (``adios.card``) and the opset (``adios.opset``).
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adios_zoo.errors import AdiosError, BackendError, ConfigError, IntegrityError
from adios_zoo.files import replacing
from adios_zoo.models.card import CONFIG, ONNX_FOLDER, Card
from adios_zoo.models.model import AdiosModel, write_card
from adios_zoo.zoo.load import load_model

from .compare import TOLERANCE, photographs, session, worst_difference

OPSET = 18
BATCHES = (1, 2, 7)


class PooledAndDense(nn.Module):
    """The encoder's pooled features and its last spatial map in NCHW."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, D), (B, C, h, w)."""
        encoder = cast("Any", self.encoder)
        final, maps = encoder.forward_intermediates(pixel_values, indices=1, norm=True)
        return encoder.forward_head(final), maps[-1]


class FromBytes(nn.Module):
    """The encoder behind its card's preprocessing: bytes in, pooled features out.

    The resize is torch's antialiased one on float values, which differs from Pillow's by less than one level.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, card: Card) -> None:
        super().__init__()
        self.encoder, self.size = encoder, card.input_size
        self.scaled = math.floor(card.input_size / card.crop_pct)
        self.squash, self.interpolation = card.crop_mode == "squash", card.interpolation
        self.register_buffer("mean", 255 * torch.tensor(card.mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(card.std)[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, D)."""
        x = image.permute(0, 3, 1, 2).float()
        height, width = image.shape[1], image.shape[2]
        rows, columns = cast("tuple[Any, Any]", (self.scaled, self.scaled))  # whole numbers or symbols of them
        if not self.squash:
            shorter = torch.sym_min(height, width)
            rows, columns = self.scaled * height // shorter, self.scaled * width // shorter
        x = F.interpolate(x, (rows, columns), mode=self.interpolation, antialias=True).clamp(0, 255)
        for axis, length in ((2, rows), (3, columns)):
            spare = length - self.size
            start = (spare + spare // 2 % 2) // 2  # half, rounded to even as torchvision's crop does
            # Selected by index: a slice with a symbolic start needs bounds that the exporter cannot prove.
            x = x.index_select(axis, torch.arange(self.size, device=x.device) + start)
        return cast("Tensor", self.encoder((x - self.mean) / self.std))


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        module: what it computes.
        input: name of its input.
        outputs: names of its outputs.
        example: of its input.
        dynamic: axes of the input that have any length, by number.
        exact: whether float64 judges it.  A softmax over large values amplifies rounding, and only the file's own
            should count.
    """

    module: nn.Module
    input: str
    outputs: tuple[str, ...]
    example: Tensor
    dynamic: dict[int, str]
    exact: bool = False


def export(source: str | os.PathLike[str] | AdiosModel, folder: str | os.PathLike[str]) -> dict[str, float]:
    """Write the ONNX files of a model into a model folder, which is made if ``folder`` is none yet.

    Each graph is run by ONNX Runtime and compared with torch on photographs, at batches of 1, 2 and 7.

    Args:
        source: a model, or what :func:`adios_zoo.load_model` takes.
        folder: gets ``onnx/``, and the model itself if it has no ``config.json``.

    Returns:
        The largest difference of each file from torch, relative to the largest value.

    Raises:
        BackendError: onnx or ONNX Runtime is missing, or the architecture cannot be exported.
        ConfigError: the folder holds another model.
        IntegrityError: a graph differs from torch by more than 1e-4; its file is not written.
    """
    out = Path(folder)
    model = source if isinstance(source, AdiosModel) else load_model(source)
    if not (out / CONFIG).exists():
        model.save_pretrained(out)
    there = load_model(f"local-dir:{out}")
    if any(not torch.equal(v.cpu(), there.state_dict().get(k, v.cpu() + 1)) for k, v in model.state_dict().items()):
        what = f"this {model.card.name}" if isinstance(source, AdiosModel) else os.fspath(source)
        raise ConfigError(f"{out} holds another model than {what}; choose another folder.")
    card = there.card
    differences, written = {}, []
    for name, graph in graphs(there).items():
        path = out / ONNX_FOLDER / f"{name}.onnx"
        differences[name] = export_graph(graph, path, card_metadata(card))
        written.append(path)
    write_card(card, out, also=written)
    return differences


def card_metadata(card: Card) -> dict[str, str]:
    """What an ONNX file holds of its card: the facts of the model, not those of the folder's files."""
    return {"adios.card": json.dumps(card.replace(files={}, precisions={}).to_dict())}


def with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A serialised model with these metadata and its opset, and no others."""
    import onnx

    model = onnx.load_from_string(data)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    onnx.helper.set_model_props(model, {**metadata, "adios.opset": str(opset)})
    return bytes(model.SerializeToString())


def graphs(model: AdiosModel) -> dict[str, Graph]:
    """The graphs of a model by file name; without a masker there is none of it.

    Raises:
        BackendError: the architecture has no dense map, or not the one that its features are pooled from.
    """
    card = model.card
    side = card.input_size
    _check_dense(model)
    batch = {0: "batch"}
    found = {
        "encoder": Graph(
            PooledAndDense(model.encoder), "pixel_values", ("features", "dense"), torch.zeros(2, 3, side, side), batch
        ),
        "encoder_uint8": Graph(
            FromBytes(model.encoder, card),
            "image",
            ("features",),
            torch.zeros(2, 2 * side + 3, 2 * side + 10, 3, dtype=torch.uint8),
            {0: "batch", 1: "height", 2: "width"},
        ),
    }
    if model.masker is not None:
        example = torch.zeros(2, 3, model.masker.image_size, model.masker.image_size)
        found["masker"] = Graph(model.masker, "pixel_values", ("masks",), example, batch, exact=True)
    return found


def export_graph(graph: Graph, path: Path, metadata: Mapping[str, str]) -> float:
    """Export one graph to ``path`` if it gives what the module gives; the largest relative difference.

    Raises:
        BackendError: torch cannot export it.
        IntegrityError: it gives something else.
    """
    data = _onnx(graph, metadata)
    difference = check_graph(graph, data)
    with replacing(path) as file:
        file.write(data)
    return difference


def check_graph(graph: Graph, data: bytes) -> float:
    """Run an ONNX file against the module that it stands for.

    Raises:
        IntegrityError: they differ by more than the tolerance on some batch.
    """
    runtime = session(data)
    module = deepcopy(graph.module).double() if graph.exact else graph.module
    worst = 0.0
    for batch in BATCHES:
        shapes = [tuple(graph.example.shape[1:])]
        if graph.example.dtype == torch.uint8:  # any size goes in: a wide one, a tall one
            shapes = [(97, 180, 3), (240, 131, 3)]
        for shape in shapes:
            x = photographs(batch, shape, graph.example.dtype)
            with torch.inference_mode():
                expected = module(x.double() if graph.exact else x)
            expected = expected if isinstance(expected, tuple) else (expected,)
            found = runtime.run(list(graph.outputs), {graph.input: x.numpy()})
            for name, a, b in zip(graph.outputs, expected, found, strict=True):
                difference = worst_difference(a.numpy(), b)
                if not difference <= TOLERANCE:
                    raise IntegrityError(
                        f"The ONNX graph's {name} differ from torch's by {difference:.1e} at batch {batch}, more than "
                        f"{TOLERANCE:.0e}."
                    )
                worst = max(worst, difference)
    return worst


def _check_dense(model: AdiosModel) -> None:
    what = f"{model.card.architecture} cannot be exported:"
    x = photographs(2, (3, model.card.input_size, model.card.input_size), torch.float32)
    try:
        with torch.inference_mode():
            features, (pooled, _) = model(x), PooledAndDense(model.encoder)(x)
    except Exception as error:  # timm's forward_intermediates raise many kinds
        raise BackendError(f"{what} timm gives it no dense map: {_reason(error)}") from error
    if not worst_difference(features.numpy(), pooled.numpy()) <= TOLERANCE:
        raise BackendError(f"{what} what timm pools from its dense map are not its features.")


def _onnx(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it and says so late)
    except ImportError as error:
        raise BackendError('Export needs onnx and onnxscript: pip install "adios-zoo[onnx]".') from error
    dynamic = dict.fromkeys(graph.dynamic, torch.export.Dim.DYNAMIC)
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            file = Path(folder) / "graph.onnx"
            torch.onnx.export(
                graph.module.eval(),
                (graph.example,),
                str(file),
                input_names=[graph.input],
                output_names=list(graph.outputs),
                dynamic_shapes=(dynamic,),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            model = onnx.load(file)
    except AdiosError:
        raise
    except Exception as error:  # torch's exporter raises many kinds
        reason = _reason(error)
        raise BackendError(f"torch cannot export {type(graph.module).__name__} to ONNX: {reason}") from error
    for axis, name in graph.dynamic.items():
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.checker.check_model(model, full_check=True)
    return with_metadata(bytes(model.SerializeToString()), metadata)


def _reason(error: Exception) -> str:
    """The innermost cause in one line: the exporter wraps it in pages of advice."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
