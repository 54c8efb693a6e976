"""The encoder in ONNX Runtime: the same call and the same numbers, with no torch and no timm.

``OnnxEncoder("folder")`` reads the folder's card and ``onnx/encoder.onnx``, which ``adios export`` writes;
``precision="int8"`` reads ``onnx/encoder_int8.onnx``.  Every precision takes and gives float32.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from pathlib import Path
from typing import Any, cast

from PIL import Image

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import BackendError, IntegrityError
from adios_zoo.features.write_file import Features
from adios_zoo.images.rgb import to_rgb
from adios_zoo.models.card import Card, check_facts
from adios_zoo.models.preprocess import Floats, Pixels, crop, normalise
from adios_zoo.zoo.fetch import locate

# Name -> the file that has it.
PRECISIONS = {
    name: f"onnx/encoder{suffix}.onnx" for name, suffix in (("fp32", ""), ("fp16", "_fp16"), ("int8", "_int8"))
}

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
        precision: ``fp32``, ``fp16`` or ``int8``.
        provider: ``cpu``, ``cuda``, ``tensorrt``, ``openvino``, ``coreml`` or ``directml``.
        fallback: take the CPU, with a warning, where the provider is not to be had.
        lanes: how many calls are going to run at once, in threads; on the CPU they share its cores.
        threads: of one forward pass on the CPU; ``None`` is one for each core that this process may use, over lanes.

    Raises:
        BackendError: ONNX Runtime, the ONNX file or the provider is missing; the message says what to do.
        IntegrityError: the file is not the one that its card describes.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        precision: str = "fp32",
        provider: str = "cpu",
        fallback: bool = False,
        lanes: int = 1,
        threads: int | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            choice = ", ".join(map(repr, PRECISIONS))
            raise BackendError(f"the onnx backend has no precision {precision!r}; use one of {choice}.")
        self.card, folder = locate(os.fspath(source))
        self.name, self.source = self.card.name, os.fspath(source)
        graph = _graph(self.card, folder, self.source, precision)
        self.weights = self.card.files[PRECISIONS[precision]].sha256
        self.lanes = lanes
        self.session = make_session(str(graph), provider, fallback, threads or max(1, usable_cpus() // lanes))
        self.provider = provider if PROVIDERS[provider][0] in self.session.get_providers() else "cpu"
        # On a CPU larger batches are no faster, and their memory is kept.
        self.auto_batch = 8 if self.provider == "cpu" else 64
        # Where the inputs are copied to by us, since ONNX Runtime would do it with a wait for each.
        self._memory = "cuda" if self.provider in ("cuda", "tensorrt") else None

    @property
    def device(self) -> str:
        """The provider that runs the graph."""
        return self.provider

    def __call__(self, pixel_values: Floats) -> Features:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        if self._memory is None:
            return cast("Features", self.session.run(["features"], {"pixel_values": pixel_values})[0])
        return self._bound(pixel_values, self._memory)

    def encode(self, pixels: Pixels) -> Features:
        """Features (B, D) of resized and cropped images (B, S, S, 3)."""
        return self(normalise(self.card, pixels))

    def transform(self, image: Image.Image) -> Floats:
        """A PIL image of any mode and size as a normalised array (3, S, S)."""
        values: Floats = normalise(self.card, crop(self.card, to_rgb(image))[None])[0]
        return values

    def _bound(self, pixel_values: Floats, memory: str) -> Features:
        from onnxruntime import OrtValue

        binding = self.session.io_binding()
        binding.bind_ortvalue_input("pixel_values", OrtValue.ortvalue_from_numpy(pixel_values, memory, 0))
        binding.bind_output("features", "cpu")  # the dense map stays where it is
        self.session.run_with_iobinding(binding)
        return cast("Features", binding.copy_outputs_to_cpu()[0])


def _graph(card: Card, folder: Path, source: str, precision: str) -> Path:
    file = PRECISIONS[precision]
    path = folder / file
    if not path.is_file():
        option = "" if precision == "fp32" else f" --precision {precision}"
        raise BackendError(
            f"{card.name} has no {file}; write it with `adios export {source} -o FOLDER{option}` and give that folder."
        )
    if file not in card.files:  # it may be another model's
        raise IntegrityError(f"{path} is not a file that its card names; write it anew with `adios export`.")
    check_facts(path, card.files[file])
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
