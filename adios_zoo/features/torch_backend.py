"""The torch encoder as the extractor drives it: pixels in, float32 rows out."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cached_property
from hashlib import sha256
from typing import Any, cast

import torch
from torch import Tensor, nn

from adios_zoo.errors import BackendError
from adios_zoo.features.write_file import Features
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import Pixels, scale_and_shift
from adios_zoo.zoo.load import load_model

# What autocast really does on each device; asked for anything else it would fall back to float32 in silence.
_PRECISIONS: dict[str, dict[str, torch.dtype]] = {
    "cuda": {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16},
    "mps": {"fp32": torch.float32, "fp16": torch.float16},
    "cpu": {"fp32": torch.float32, "bf16": torch.bfloat16},
}
_AUTO_BATCH = {"cuda": 256, "mps": 64, "cpu": 32}


class TorchBackend:
    """An encoder in eval mode on one device, in one precision.

    ``source`` is what ``load_model`` takes, or a loaded model, which is moved to the device; ``card`` says how images
    are prepared, in place of the model's own.

    Raises:
        BackendError: the device or the precision is not available here.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | nn.Module,
        *,
        device: str,
        precision: str,
        card: Card | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.dtype = _dtype(precision, self.device)
        self.auto_batch = _AUTO_BATCH.get(self.device.type, 32)
        model = source if isinstance(source, nn.Module) else load_model(source)
        # Convolutions are faster so, on CPUs and, with half types, on GPUs.
        self.model: nn.Module = cast("Any", model.eval()).to(self.device, memory_format=torch.channels_last)
        self.lanes = 1  # torch's threads are the whole process's
        self.card = card or cast("Card", self.model.card)
        self.name = self.card.name
        self.source = self.name if isinstance(source, nn.Module) else os.fspath(source)
        self._scale, self._shift = (
            torch.from_numpy(v)[:, None, None].to(self.device) for v in scale_and_shift(self.card)
        )

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the encoder's parameters and buffers."""
        return weights_digest(cast("nn.Module", getattr(self.model, "encoder", self.model)))

    def encode(self, pixels: Pixels) -> Features:
        """Features (B, D) of resized and cropped images (B, S, S, 3)."""
        x = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            x = x.pin_memory()
        half = self.dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype) if half else nullcontext():
            # Bytes travel, a quarter of the numbers; their order is that of channels_last already.
            x = x.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            x = torch.addcmul(self._shift, x.float(), self._scale)
            return cast("Features", cast("Tensor", self.model(x)).float().cpu().numpy())


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers, whatever file they came from."""
    digest = sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


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
