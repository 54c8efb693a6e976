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
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.files import replacing
from adios_zoo.images import ImageError, ImageRef, Images, open_images
from adios_zoo.writers import csv_lines, open_writer

Features: TypeAlias = "NDArray[np.float32]"

# What autocast really does on each device; asked for anything else it would fall back to float32 in silence.
_PRECISIONS: dict[str, dict[str, torch.dtype]] = {
    "cuda": {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16},
    "mps": {"fp32": torch.float32, "fp16": torch.float16},
    "cpu": {"fp32": torch.float32, "bf16": torch.bfloat16},
}
_AUTO_BATCH = {"cuda": 256, "mps": 64, "cpu": 32}
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


class FeatureExtractor:
    """Turns images into pooled features with one encoder.

    ``source`` is what ``load_model`` takes, or a loaded model, which is moved to the device and set to eval
    mode.

    - ``device``: "auto" (cuda, else mps, else cpu) or a torch device name.
    - ``precision``: "fp32"; "bf16" and "fp16" by autocast, where the device has them.  Features are float32.
    - ``batch_size``: images a forward pass; "auto" is 256 on cuda, 64 on mps, 32 on the CPU.
    - ``num_workers``: decoding threads; 0 decodes between the batches; "auto" is one for each usable core.

    After a run ``failures`` lists the images that it left out, in order.

    Raises BackendError for a backend, device or precision that is not available here, ConfigError for a bad
    number.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | nn.Module = "resnet18_tin200",
        *,
        backend: str = "torch",
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int | str = "auto",
        num_workers: int | str = "auto",
    ) -> None:
        if backend != "torch":
            raise BackendError(f"backend {backend!r} is not available; use 'torch'.")
        self.device = _device(device)
        self.dtype = _dtype(precision, self.device)
        self.precision = precision
        self.batch_size = _count("batch_size", batch_size, _AUTO_BATCH.get(self.device.type, 32), least=1)
        self.num_workers = _count("num_workers", num_workers, min(usable_cpus(), _MOST_AUTO_WORKERS), least=0)
        self.failures: list[Failure] = []
        self.model = self._load(source)
        self.name = str(cast(Any, self.model).card.name)
        self.source = self.name if isinstance(source, nn.Module) else os.fspath(source)
        self._transform = cast("Callable[[Image.Image], Tensor]", self.model.transform)

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

    def _run(self, refs: Iterable[ImageRef], skip_bad: bool) -> Iterator[tuple[list[str], Features]]:
        self.failures = []
        ids: list[str] = []
        inputs: list[Tensor] = []
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

    def _prepare(self, ref: ImageRef) -> Tensor | ImageError:
        try:
            return self._transform(ref.read())
        except ImageError as error:
            return error
        except Exception as error:  # a picture of odd proportions must not end a long run
            return ImageError(ref.id, f"cannot be made an input of the model: {error or type(error).__name__}")

    def _encode(self, inputs: list[Tensor]) -> Features:
        x = torch.stack(inputs)
        if self.device.type == "cuda":
            x = x.pin_memory()
        half = self.dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype) if half else nullcontext():
            x = x.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            features = cast(Tensor, self.model(x)).float().cpu()
        if not bool(torch.isfinite(features).all()):
            raise BackendError(
                f"{self.name} gave features that are not finite in {self.precision}; use precision 'fp32'."
            )
        return cast("Features", features.numpy())

    def _load(self, source: str | os.PathLike[str] | nn.Module) -> nn.Module:
        if isinstance(source, nn.Module):
            model = source.to(self.device)
        else:
            from adios_zoo.model import load_model

            model = cast(nn.Module, load_model(os.fspath(source), device=str(self.device)))
        # Convolutions are faster so, on CPUs and, with half types, on GPUs.
        return cast(nn.Module, cast(Any, model.eval()).to(memory_format=torch.channels_last))


def extract_to_file(
    source_images: Images,
    output: Path,
    *,
    extractor: FeatureExtractor,
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
            raise _all_failed(extractor.failures)
    _write_failures(output.with_name(f"{output.name}.failed.csv"), extractor.failures)
    seconds = time.perf_counter() - start
    return ExtractionReport(writer.rows, writer.dim, tuple(extractor.failures), seconds, skip_bad)


def usable_cpus() -> int:
    """Return how many cores this process may use: its affinity, cut by a cgroup's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the cores that the cgroup (version 2, else 1) grants, or None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max" means no limit
        return None


def _in_order(
    work: Callable[[ImageRef], Tensor | ImageError], refs: Iterable[ImageRef], workers: int, ahead: int
) -> Iterator[tuple[ImageRef, Tensor | ImageError]]:
    """Yield (ref, work(ref)) in the order of ``refs``, with at most ``ahead`` results computed beforehand.

    Threads serve: Pillow and torch let go of the interpreter lock while they decode and resize.
    """
    if workers == 0:
        for ref in refs:
            yield ref, work(ref)
        return
    remaining = iter(refs)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="adios-decode")
    pending: deque[tuple[ImageRef, Future[Tensor | ImageError]]] = deque()
    try:
        pending.extend((ref, pool.submit(work, ref)) for ref in islice(remaining, ahead))
        while pending:
            ref, future = pending.popleft()
            result = future.result()
            pending.extend((later, pool.submit(work, later)) for later in islice(remaining, 1))
            yield ref, result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _device(name: str) -> torch.device:
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
