"""The torch encoder as the extractor drives it: a list of inputs in, float32 rows out."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from adios_zoo.errors import BackendError
from adios_zoo.model import load_model
from adios_zoo.writers import Features

# What autocast really does on each device; asked for anything else it would fall back to float32 in silence.
_PRECISIONS: dict[str, dict[str, torch.dtype]] = {
    "cuda": {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16},
    "mps": {"fp32": torch.float32, "fp16": torch.float16},
    "cpu": {"fp32": torch.float32, "bf16": torch.bfloat16},
}
_AUTO_BATCH = {"cuda": 256, "mps": 64, "cpu": 32}


class TorchBackend:
    """An encoder in eval mode on one device, in one precision.

    ``source`` is what ``load_model`` takes, or a loaded model, which is moved to the device.

    Raises:
        BackendError: the device or the precision is not available here.
    """

    def __init__(self, source: str | os.PathLike[str] | nn.Module, *, device: str, precision: str) -> None:
        self.device = choose_device(device)
        self.dtype = _dtype(precision, self.device)
        self.auto_batch = _AUTO_BATCH.get(self.device.type, 32)
        model = source if isinstance(source, nn.Module) else load_model(source)
        # Convolutions are faster so, on CPUs and, with half types, on GPUs.
        self.model: nn.Module = cast("Any", model.eval()).to(self.device, memory_format=torch.channels_last)
        self.name = str(cast("Any", self.model).card.name)
        self.source = self.name if isinstance(source, nn.Module) else os.fspath(source)
        self.transform = cast("Callable[[Image.Image], Tensor]", self.model.transform)

    def encode(self, inputs: list[Tensor]) -> Features:
        """Features (n, D) of n transformed images."""
        x = torch.stack(inputs)
        if self.device.type == "cuda":
            x = x.pin_memory()
        half = self.dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype) if half else nullcontext():
            x = x.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            return cast("Features", cast("Tensor", self.model(x)).float().cpu().numpy())


def choose_device(name: str) -> torch.device:
    """The device that ``name`` asks for; ``auto`` is cuda, else mps, else cpu.

    Raises:
        BackendError: it is not available here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"device {name!r} is unknown; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.") from error
    present = {
        "cpu": device.index in (None, 0),
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise BackendError(f"device {name!r} is not available here; use 'auto' or 'cpu'.")
    return device


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    offered = _PRECISIONS[device.type]
    if precision == "int8":
        raise BackendError("the torch backend has no int8; use precision 'fp32'.")
    if precision not in offered:
        choice = ", ".join(map(repr, offered))
        raise BackendError(f"precision {precision!r} is not available on {device.type}; use one of {choice}.")
    return offered[precision]
