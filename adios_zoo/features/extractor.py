"""An encoder over any images: decoding and encoding at once, in threads, and rows that never shift.

An image that cannot be read takes no part in a batch: the good ones fill it, so that their features are the
same whether or not broken files lie among them.  Batches depend on the images alone, never on timing.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from adios_zoo.cores import usable_cpus, usable_lanes
from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.features.decoding import read_pixels
from adios_zoo.features.feature_stream import Batch, FeatureStream
from adios_zoo.features.journal import Failure
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.in_order import chunks, in_order, threads
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import Pixels
from adios_zoo.sources.open import Images, open_images
from adios_zoo.zoo.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from torch import nn

_MOST_AUTO_WORKERS = 16
_CHUNK = 8  # images that a thread decodes at a time: each hand-over costs


class Backend(Protocol):
    """An encoder as the extractor drives it; ``torch_backend.py`` and ``onnx_backend.py`` have one each.

    Attributes:
        name: of the model.
        source: what it was loaded by.
        card: facts of the model, its preprocessing among them.
        auto_batch: a good batch size.
        lanes: how many batches it takes at once.
        weights: SHA-256 of what the features depend on.
    """

    name: str
    source: str
    card: Card
    auto_batch: int
    lanes: int

    @property
    def weights(self) -> str:
        """See above."""

    def encode(self, pixels: Pixels) -> Features:
        """Features (B, D), float32, of resized and cropped images (B, S, S, 3) uint8."""


class Engine(Protocol):
    """What gives the rows of a feature file: a FeatureExtractor, or what stands in for one.

    Attributes:
        name: of the model.
        source: what it was loaded by.
    """

    name: str
    source: str

    @property
    def settings(self) -> dict[str, str]:
        """What a row depends on besides its image, by name."""

    def _run(self, refs: Iterable[ImageRef], skip_bad: bool) -> FeatureStream:
        """The rows of these images, and what failed."""


class FeatureExtractor:
    """Turns images into pooled features with one encoder.

    ``source`` is what ``load_model`` takes, or (torch backend) a loaded model, which is moved to the device and
    set to eval mode.  Images are resized and cropped as the model's card says; see :mod:`adios_zoo.features.decoding`.

    - ``backend``: "torch", or "onnx": ONNX Runtime on a folder that ``adios export`` wrote, without torch.
    - ``device``: "auto" (cuda, else mps, else cpu; with onnx the CPU) or a torch device name; with onnx a
      provider's name.
    - ``precision``: "fp32"; with torch "bf16" and "fp16" by autocast, where the device has them; with onnx "fp16"
      and "int8", which have files of their own (``adios export --precision``).  Features are float32.
    - ``batch_size``: images a forward pass; "auto" is 256 on cuda, 64 on mps, 32 on the CPU; with onnx 8 on the
      CPU, else 64.
    - ``card``: how images are prepared, in place of the model's own card; with torch alone.
    - ``num_workers``: decoding threads; 0 does everything in turn, in the caller's thread; "auto" is one for each
      usable core.

    Any number of threads may use one extractor: a call keeps what failed to itself.

    Raises BackendError for a backend, device or precision that is not available here, ConfigError for a bad
    number.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | nn.Module = DEFAULT_MODEL,
        *,
        backend: str = "torch",
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int | str = "auto",
        num_workers: int | str = "auto",
        card: Card | None = None,
    ) -> None:
        self.num_workers = _count("num_workers", num_workers, min(usable_cpus(), _MOST_AUTO_WORKERS), least=0)
        _count("batch_size", batch_size, 1, least=1)  # a mistake should not wait for the model
        self.backend = _backend(backend, source, device, precision, card)
        self.batch_size = _count("batch_size", batch_size, self.backend.auto_batch, least=1)
        self._backend_name, self.precision = backend, precision
        self.name, self.source = self.backend.name, self.backend.source

    def extract(self, images: Images, *, skip_bad: bool = False, failures: list[Failure] | None = None) -> Features:
        """Return features (n, D), float32, one row an image in the order of ``images``.

        ``images`` is a folder, a glob, a ``.txt`` list, a path, a PIL image, an array of uint8 (H,W),
        (H,W,3), (H,W,4) or (N,H,W,3), or an iterable of any of these.

        Raises DataError naming the first image that cannot be read; with ``skip_bad`` such images have no row, and
        only when none is left DataError is raised.  ``failures`` is a list of the caller's, to which
        (id, reason) of each image left out is appended, in order.
        """
        stream = self.stream(images, skip_bad=skip_bad)
        batches = [features for _, features in stream]
        if failures is not None:
            failures += stream.failures
        if not batches:
            raise all_failed(stream.failures)
        return np.concatenate(batches)

    def stream(self, images: Images, *, skip_bad: bool = False) -> FeatureStream:
        """Yield (ids, features (b, D)) batch by batch, in order, with only a few batches in memory.

        ``images`` and errors are those of :meth:`extract`; the last batch may be smaller.  The id of a
        path is the path, that of an image in memory ``#i``.  With ``skip_bad`` the images left out so far are in
        the iterator's own ``failures``, and with no image left it yields nothing.
        """
        return self._run(open_images(images), skip_bad)

    def rows(self, refs: Iterable[ImageRef]) -> tuple[Features, dict[int, str]]:
        """Return features (n, D), row i of image i, and by its number why an image has a row of NaN."""
        numbered = [replace(ref, id=str(number)) for number, ref in enumerate(refs)]
        features = np.full((len(numbered), self.dim), np.nan, np.float32)
        stream = self._run(numbered, True)
        for numbers, batch in stream:
            features[[int(number) for number in numbers]] = batch
        return features, {int(failure.id): failure.reason for failure in stream.failures}

    @cached_property
    def dim(self) -> int:
        """Numbers D of a feature."""
        size = self.backend.card.input_size
        return int(self.backend.encode(np.zeros((1, size, size, 3), np.uint8)).shape[1])

    @property
    def settings(self) -> dict[str, str]:
        """Return what a row depends on besides its image, by name."""
        return {
            "model": self.name,
            "weights": self.backend.weights,
            "backend": self._backend_name,
            "precision": self.precision,
            "batch size": str(self.batch_size),
        }

    def _run(self, refs: Iterable[ImageRef], skip_bad: bool) -> FeatureStream:
        return FeatureStream(lambda failures: self._encoded(refs, skip_bad, failures))

    def _encoded(
        self, refs: Iterable[ImageRef], skip_bad: bool, failures: list[Failure]
    ) -> Generator[Batch, None, None]:
        lanes = self.backend.lanes
        with (
            threads(self.num_workers, "decode") as decoding,
            threads(lanes if self.num_workers else 0, "encode") as encoding,
        ):
            batches = self._batches(refs, skip_bad, decoding)
            # One waits while the others are encoded.
            for batch, features in in_order(encoding, self._encode, batches, lanes + 1):
                failures += batch.failures
                if batch.ids:
                    yield batch.ids, features

    def _batches(self, refs: Iterable[ImageRef], skip_bad: bool, decoding: Executor) -> Iterator[_Batch]:
        batch = _Batch()
        workers = max(1, self.num_workers)
        chunk = max(1, min(_CHUNK, self.batch_size // workers))
        ahead = max(2 * workers, -(-self.batch_size // chunk))  # in chunks: no thread is idle, and a batch is ready
        for chunk_refs, results in in_order(decoding, self._prepare, chunks(refs, chunk), ahead):
            for ref, result in zip(chunk_refs, results, strict=True):
                if isinstance(result, ImageError):
                    if not skip_bad:
                        raise result
                    batch.failures.append(Failure(ref.id, result.reason))
                    continue
                batch.ids.append(ref.id)
                batch.pixels.append(result)
                if len(batch.ids) == self.batch_size:
                    yield batch
                    batch = _Batch()
        if batch.ids or batch.failures:
            yield batch

    def _encode(self, batch: _Batch) -> Features:
        if not batch.ids:
            return np.empty((0, 0), np.float32)
        pixels, batch.pixels = np.stack(batch.pixels), []
        features = self.backend.encode(pixels)
        if not bool(np.isfinite(features).all()):
            raise BackendError(
                f"{self.name} gave features that are not finite in {self.precision}; use precision 'fp32'."
            )
        return features

    def _prepare(self, refs: Sequence[ImageRef]) -> list[Pixels | ImageError]:
        return [self._read(ref) for ref in refs]

    def _read(self, ref: ImageRef) -> Pixels | ImageError:
        try:
            return read_pixels(ref, self.backend.card)
        except ImageError as error:
            return error
        except Exception as error:  # a picture of odd proportions must not end a long run
            return ImageError(ref.id, f"cannot be made an input of the model: {str(error) or type(error).__name__}")


@dataclass
class _Batch:
    """Images that are encoded together, and those before its last that cannot be."""

    ids: list[str] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def _backend(
    name: str, source: str | os.PathLike[str] | nn.Module, device: str, precision: str, card: Card | None
) -> Backend:
    if name == "torch":
        from adios_zoo.features.torch_backend import TorchBackend

        return TorchBackend(source, device=device, precision=precision, card=card)
    if name != "onnx":
        raise BackendError(f"backend {name!r} is unknown; use 'torch' or 'onnx'.")
    if not isinstance(source, str | os.PathLike):
        raise BackendError("the onnx backend takes the folder of a model, not a loaded one.")
    if card is not None:
        raise BackendError("the onnx backend prepares images as its model's card says; another card is for torch.")
    from adios_zoo.features.onnx_backend import OnnxEncoder

    provider = "cpu" if device == "auto" else device
    return OnnxEncoder(source, precision=precision, provider=provider, lanes=usable_lanes() if provider == "cpu" else 1)


def _count(name: str, value: int | str, auto: int, *, least: int) -> int:
    if value == "auto":
        return auto
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least:
        raise ConfigError(f"{name} is {value!r}; give 'auto' or a whole number from {least} up.")
    return number


def metadata_of(engine: Engine) -> dict[str, str]:
    """Say which model made a feature file, for its metadata."""
    return {"adios.model": engine.source, "adios.card": engine.name, "adios.precision": engine.settings["precision"]}


def all_failed(failures: list[Failure]) -> DataError:
    """Say that no image could be read, and why the first could not."""
    if not failures:
        return DataError("no images were given: pass at least one path, PIL image or array.")
    first = failures[0]
    return DataError(f"none of the {len(failures)} images can be read; the first: {first.id}: {first.reason}.")
