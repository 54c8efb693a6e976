"""The encoder in ONNX Runtime: the same call and the same numbers, with no torch and no timm.

``OnnxEncoder("folder")`` reads the folder's card and ``onnx/encoder.onnx``, which ``adios export`` writes.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import BackendError, IntegrityError
from adios_zoo.fetch import locate
from adios_zoo.images import to_rgb
from adios_zoo.model_card import Card, check_facts
from adios_zoo.preprocess import crop_start, resized_size
from adios_zoo.writers import Features

FILE = "onnx/encoder.onnx"

# Name -> ONNX Runtime's name, and where the provider comes from.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "any onnxruntime package"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu and an NVIDIA driver"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu and TensorRT"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime on macOS"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml on Windows"),
}


class OnnxEncoder:
    """A pretrained encoder in ONNX Runtime.

    ``encoder(x)`` maps normalised images (B, 3, S, S) float32 to features (B, D) float32; ``encoder.transform``
    makes such an image of a PIL image, exactly as the torch model's transform does.

    Args:
        source: a model folder with ONNX files, ``local-dir:PATH``, or a name whose folder has them.
        provider: ``cpu``, ``cuda``, ``tensorrt``, ``openvino``, ``coreml`` or ``directml``.
        fallback: take the CPU, with a warning, where the provider is not to be had.
        threads: of one forward pass on the CPU; ``None`` is one for each core that this process may use.

    Raises:
        BackendError: ONNX Runtime, the ONNX file or the provider is missing; the message says what to do.
        IntegrityError: the file is not the one that its card describes.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        provider: str = "cpu",
        fallback: bool = False,
        threads: int | None = None,
    ) -> None:
        self.card, folder = locate(os.fspath(source))
        self.name, self.source = self.card.name, os.fspath(source)
        self.auto_batch = 8  # larger ones are no faster on a CPU and their memory is kept
        self.session = make_session(
            str(_graph(self.card, folder, self.source)), provider, fallback, threads or usable_cpus()
        )
        self.provider = provider if PROVIDERS[provider][0] in self.session.get_providers() else "cpu"

    @property
    def device(self) -> str:
        """The provider that runs the graph."""
        return self.provider

    def __call__(self, pixel_values: NDArray[np.float32]) -> Features:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        return cast("Features", self.session.run(["features"], {"pixel_values": pixel_values})[0])

    def encode(self, inputs: list[NDArray[np.float32]]) -> Features:
        """Features (n, D) of n transformed images."""
        return self(np.stack(inputs))

    def transform(self, image: Image.Image) -> NDArray[np.float32]:
        """A PIL image of any mode and size as a normalised array (3, S, S)."""
        card = self.card
        image = to_rgb(image)
        size = resized_size(card, *image.size)
        if size != image.size:
            image = image.resize(size, Image.Resampling[card.interpolation.upper()])
        left, top = (crop_start(card, side) for side in size)
        image = image.crop((left, top, left + card.input_size, top + card.input_size))
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (card.mean, card.std))
        return np.ascontiguousarray((pixels - mean) / std)


def _graph(card: Card, folder: Path, source: str) -> Path:
    path = folder / FILE
    if not path.is_file():
        raise BackendError(
            f"{card.name} has no {FILE}; write it with `adios export {source} -o FOLDER` and give that folder."
        )
    if FILE not in card.files:  # it may be another model's
        raise IntegrityError(f"{path} is not a file that its card names; write it anew with `adios export`.")
    check_facts(path, card.files[FILE])
    return path


def make_session(model: str | bytes, provider: str, fallback: bool, threads: int) -> Any:
    """An ONNX Runtime session of a file's path or content, on the provider and on no other unless allowed.

    Raises:
        BackendError: ONNX Runtime or the provider is missing.
    """
    if provider not in PROVIDERS:
        raise BackendError(f"Provider {provider!r} is unknown; it is one of {', '.join(PROVIDERS)}.")
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError('This needs ONNX Runtime: pip install "adios-zoo[onnx]".') from error
    _warn_of_both()
    wanted, needs = PROVIDERS[provider]
    if wanted == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # its own default is the host's core count, also in a container
    options.log_severity_level = 4  # a provider that fails to load is reported below, in one sentence
    providers = [wanted, "CPUExecutionProvider"] if wanted in onnxruntime.get_available_providers() else []
    if providers:
        session = onnxruntime.InferenceSession(model, options, providers=list(dict.fromkeys(providers)))
        # ONNX Runtime falls back in silence: what runs is what the session says.
        if wanted in session.get_providers():
            return session
    message = f"ONNX Runtime cannot run on {provider!r} here; it needs {needs}."
    if not fallback:
        raise BackendError(f"{message} Install that, choose provider 'cpu', or allow the fallback to it.")
    warnings.warn(f"{message} The CPU is taken instead.", stacklevel=4)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _warn_of_both() -> None:
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        installed.append(name)
    if len(installed) == 2:
        warnings.warn(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; uninstall both, "
            "then install the one that you want.",
            stacklevel=5,
        )
