"""An encoder over any images: decode ahead in threads, encode in batches, hand out rows that never shift.

An image that cannot be read takes no part in a batch: the good ones fill it, so that their features are the
same whether or not broken files lie among them.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.files import replacing
from adios_zoo.images import ImageError, ImageRef, Images, open_images
from adios_zoo.registry import DEFAULT_MODEL
from adios_zoo.writers import Features, csv_lines, open_writer

if TYPE_CHECKING:
    from torch import nn

_MOST_AUTO_WORKERS = 16


class Failure(NamedTuple):
    """An image that could not be read, and the sentence that says why."""

    id: str
    reason: str


@dataclass(frozen=True)
class ExtractionReport:
    """What a run wrote: ``rows`` features of ``dim`` numbers in ``seconds``, and what it had to leave out."""

    rows: int
    dim: int
    failures: tuple[Failure, ...]
    seconds: float
    skip_bad: bool = False

    @property
    def exit_code(self) -> int:
        """1 when an image failed and that was not allowed, else 0."""
        return 1 if self.failures and not self.skip_bad else 0


class Backend(Protocol):
    """An encoder as the extractor drives it; ``torch_backend.py`` and ``runtime.py`` have one each."""

    name: str
    source: str
    auto_batch: int

    def transform(self, image: Image.Image) -> Any:
        """One input of the encoder."""

    def encode(self, inputs: list[Any]) -> Features:
        """Features (n, D), float32, of n inputs."""


class Engine(Protocol):
    """What gives the rows of a feature file: a FeatureExtractor, or what stands in for one."""

    name: str
    source: str
    failures: list[Failure]

    def _run(self, refs: Iterable[ImageRef], skip_bad: bool) -> Iterator[tuple[list[str], Features]]: ...


class FeatureExtractor:
    """Turns images into pooled features with one encoder.

    ``source`` is what ``load_model`` takes, or (torch backend) a loaded model, which is moved to the device and
    set to eval mode.

    - ``backend``: "torch", or "onnx": ONNX Runtime on a folder that ``adios export`` wrote, without torch.
    - ``device``: "auto" (cuda, else mps, else cpu; with onnx the CPU) or a torch device name; with onnx a
      provider's name.
    - ``precision``: "fp32"; "bf16" and "fp16" by autocast, where the device has them.  Features are float32.
    - ``batch_size``: images a forward pass; "auto" is 256 on cuda, 64 on mps, 32 on the CPU, 8 with onnx.
    - ``num_workers``: decoding threads; 0 decodes between the batches; "auto" is one for each usable core.

    After a run ``failures`` lists the images that it left out, in order.

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
    ) -> None:
        self.num_workers = _count("num_workers", num_workers, min(usable_cpus(), _MOST_AUTO_WORKERS), least=0)
        _count("batch_size", batch_size, 1, least=1)  # a mistake should not wait for the model
        self.backend = _backend(backend, source, device, precision)
        self.batch_size = _count("batch_size", batch_size, self.backend.auto_batch, least=1)
        self.precision = precision
        self.failures: list[Failure] = []
        self.name, self.source = self.backend.name, self.backend.source

    def extract(self, images: Images, *, skip_bad: bool = False) -> Features:
        """Return features (n, D), float32, one row an image in the order of ``images``.

        ``images`` is a folder, a glob, a ``.txt`` list, a path, a PIL image, an array of uint8 (H,W),
        (H,W,3), (H,W,4) or (N,H,W,3), or an iterable of any of these.

        Raises DataError naming the first image that cannot be read; with ``skip_bad`` such images have no row
        and are listed in ``failures``, and only when none is left DataError is raised.
        """
        batches = [features for _, features in self.stream(images, skip_bad=skip_bad)]
        if not batches:
            raise _all_failed(self.failures)
        return np.concatenate(batches)

    def stream(self, images: Images, *, skip_bad: bool = False) -> Iterator[tuple[list[str], Features]]:
        """Yield (ids, features (b, D)) batch by batch, in order, with only a few batches in memory.

        ``images`` and errors are those of :meth:`extract`; the last batch may be smaller.  The id of a
        path is the path, that of an image in memory ``#i``.  With ``skip_bad`` and no image left it yields
        nothing.
        """
        return self._run(open_images(images), skip_bad)

    def rows(self, refs: Iterable[ImageRef]) -> tuple[Features, dict[int, str]]:
        """Return features (n, D), row i of image i, and by its number why an image has a row of NaN."""
        numbered = [replace(ref, id=str(number)) for number, ref in enumerate(refs)]
        features = np.full((len(numbered), self.dim), np.nan, np.float32)
        for numbers, batch in self._run(numbered, True):
            features[[int(number) for number in numbers]] = batch
        return features, {int(failure.id): failure.reason for failure in self.failures}

    @cached_property
    def dim(self) -> int:
        """Numbers D of a feature."""
        return int(self.backend.encode([self.backend.transform(Image.new("RGB", (256, 256)))]).shape[1])

    def _run(self, refs: Iterable[ImageRef], skip_bad: bool) -> Iterator[tuple[list[str], Features]]:
        self.failures = []
        ids: list[str] = []
        inputs: list[Any] = []
        ahead = 2 * self.batch_size  # one batch is decoded while the other is encoded
        for ref, result in _in_order(self._prepare, refs, self.num_workers, ahead):
            if isinstance(result, ImageError):
                if not skip_bad:
                    raise result
                self.failures.append(Failure(ref.id, result.reason))
                continue
            ids.append(ref.id)
            inputs.append(result)
            if len(ids) == self.batch_size:
                yield ids, self._encode(inputs)
                ids, inputs = [], []
        if ids:
            yield ids, self._encode(inputs)

    def _encode(self, inputs: list[Any]) -> Features:
        features = self.backend.encode(inputs)
        if not bool(np.isfinite(features).all()):
            raise BackendError(
                f"{self.name} gave features that are not finite in {self.precision}; use precision 'fp32'."
            )
        return features

    def _prepare(self, ref: ImageRef) -> Any:
        try:
            return self.backend.transform(ref.read())
        except ImageError as error:
            return error
        except Exception as error:  # a picture of odd proportions must not end a long run
            return ImageError(ref.id, f"cannot be made an input of the model: {error or type(error).__name__}")


def _backend(name: str, source: str | os.PathLike[str] | nn.Module, device: str, precision: str) -> Backend:
    if name == "torch":
        from adios_zoo.torch_backend import TorchBackend

        return TorchBackend(source, device=device, precision=precision)
    if name != "onnx":
        raise BackendError(f"backend {name!r} is unknown; use 'torch' or 'onnx'.")
    if not isinstance(source, str | os.PathLike):
        raise BackendError("the onnx backend takes the folder of a model, not a loaded one.")
    if precision != "fp32":
        raise BackendError(f"the onnx backend has no precision {precision!r}; use 'fp32'.")
    from adios_zoo.runtime import OnnxEncoder

    return OnnxEncoder(source, provider="cpu" if device == "auto" else device)


def extract_to_file(
    source_images: Images,
    output: Path,
    *,
    extractor: Engine,
    progress: bool = True,
    skip_bad: bool = False,
) -> ExtractionReport:
    """Write features to ``output`` (.parquet, .npy or .csv), one row for each image that can be read.

    Each one that cannot is named on stderr and in ``<output>.failed.csv`` (path, reason); when all could be
    read there is no such file.  ``skip_bad`` changes only the report's ``exit_code``.  ``progress`` shows a
    bar with images/s on stderr.

    Raises DataError, and leaves ``output`` as it was, when no image can be read or the file not be written;
    ConfigError for another suffix.
    """
    start = time.perf_counter()
    refs = open_images(source_images)
    total = len(refs) if isinstance(refs, Sized) else None
    # In a log each refresh is a line of its own, so a few must do.
    often = 0.1 if sys.stderr.isatty() else 10.0
    metadata = {"adios.model": extractor.source, "adios.card": extractor.name}
    told = 0
    with (
        open_writer(output, metadata) as writer,
        tqdm(total=total, unit=" images", disable=not progress, mininterval=often) as bar,
    ):
        for ids, features in extractor._run(refs, True):
            writer.write(ids, features)
            told = _tell(extractor.failures, told, bar)
            bar.update(writer.rows + told - bar.n)
        told = _tell(extractor.failures, told, bar)
        bar.update(writer.rows + told - bar.n)
        if not writer.rows:
            _write_failures(output.with_name(f"{output.name}.failed.csv"), extractor.failures)
            raise _all_failed(extractor.failures)
    _write_failures(output.with_name(f"{output.name}.failed.csv"), extractor.failures)
    seconds = time.perf_counter() - start
    return ExtractionReport(writer.rows, writer.dim, tuple(extractor.failures), seconds, skip_bad)


def _in_order(
    work: Callable[[ImageRef], Any], refs: Iterable[ImageRef], workers: int, ahead: int
) -> Iterator[tuple[ImageRef, Any]]:
    """Yield (ref, work(ref)) in the order of ``refs``, with at most ``ahead`` results computed beforehand.

    Threads serve: Pillow and torch let go of the interpreter lock while they decode and resize.
    """
    if workers == 0:
        for ref in refs:
            yield ref, work(ref)
        return
    remaining = iter(refs)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="adios-decode")
    pending: deque[tuple[ImageRef, Future[Any]]] = deque()
    try:
        pending.extend((ref, pool.submit(work, ref)) for ref in islice(remaining, ahead))
        while pending:
            ref, future = pending.popleft()
            result = future.result()
            pending.extend((later, pool.submit(work, later)) for later in islice(remaining, 1))
            yield ref, result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


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


def _tell(failures: list[Failure], told: int, bar: tqdm[Any]) -> int:
    for failure in failures[told:]:
        bar.write(f"{failure.id}: {failure.reason}", file=sys.stderr)
    return len(failures)


def _write_failures(path: Path, failures: list[Failure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        file.write(csv_lines([["path", "reason"], *failures]))


def _all_failed(failures: list[Failure]) -> DataError:
    if not failures:
        return DataError("no images were given: pass at least one path, PIL image or array.")
    first = failures[0]
    return DataError(f"none of the {len(failures)} images can be read; the first: {first.id}: {first.reason}.")
