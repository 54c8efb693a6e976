"""How fast features come on this machine: ``adios bench extract``.

In one run and in turns: the plain way, every backend and precision that the model has here, and the two ceilings of
each, which are what decoding alone and the encoder alone would do with all cores.  Each way has a process of its own,
so that its peak memory is its own; figures are medians of the rounds.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import ConfigError
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.features.onnx_backend import PRECISIONS
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import ImageRef
from adios_zoo.images.opening import open_image
from adios_zoo.in_order import chunks, in_order, threads
from adios_zoo.sources.open import Images, open_images
from adios_zoo.zoo.fetch import locate

from .own_process import Maker, Work, answer, asked, own_process

if TYPE_CHECKING:
    from torch import Tensor

    from adios_zoo.models.preprocess import Transform

_PLAIN_BATCH = 32
_LARGE_IMAGES = 24

_FIRST_FEATURE = """
import sys
from adios_zoo import FeatureExtractor
model, backend, image = sys.argv[1:]
FeatureExtractor(model, backend=backend).extract(image)
"""


@dataclass(frozen=True)
class Measured:
    """One way to features.

    Attributes:
        way: its name; ``decoding`` and ``encoder`` are the ceilings.
        rate: images a second, the median of the rounds.
        ratio: to the plain way; of the plain decoding, for decoding.
        share: of the lower of its two ceilings.
        attainable: share of what both ceilings allow where they have the same cores to share; ``None`` on a GPU.
        megabytes: peak memory of its process.
        cosine: smallest and median cosine similarity of its features to the plain ones.
    """

    way: str
    rate: float
    ratio: float
    share: float | None = None
    attainable: float | None = None
    megabytes: float = 0.0
    cosine: tuple[float, float] | None = None


def bench_extract(
    model: str,
    images: Images,
    *,
    count: int | None = None,
    rounds: int = 3,
    megapixels: float | None = None,
    device: str = "auto",
    progress: Callable[[str], None] = lambda text: None,
) -> list[Measured]:
    """Measure every way to features.

    Args:
        model: its folder, with ``onnx/`` for the ways of ONNX Runtime, or what ``load_model`` takes.
        images: a SOURCE, or several.
        count: images a round, taken from the start again if there are fewer; default: as many as there are, or 24
            large ones.
        rounds: how often each way has its turn.
        megapixels: enlarge the photographs to so many, in a temporary folder.
        device: of the encoder, for torch and, unless ``auto``, ONNX Runtime.
        progress: is told what is going on.

    Raises:
        AdiosError: no such model, images or device.
        ConfigError: a number makes no sense.
    """
    if rounds < 1 or (count is not None and count < 1) or (megapixels is not None and not 0 < megapixels <= 80):
        raise ConfigError("rounds and images must be at least 1, and megapixels above 0, at most 80.")
    with ExitStack() as stack:
        if megapixels is not None:
            folder = stack.enter_context(TemporaryDirectory(prefix="adios-bench-"))
            progress(f"making photographs of {megapixels:g} megapixels")
            images = _enlarged(islice(open_images(images), count or _LARGE_IMAGES), Path(folder), megapixels)
        ways = _ways(model, images, count, device)
        tasks = {name: stack.enter_context(own_process(make)) for name, make in ways.items()}
        for name, task in tasks.items():
            progress(f"preparing {name}")
            answer(task)
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for turn in range(rounds):
            for name, task in tasks.items():
                progress(f"round {turn + 1} of {rounds}: {name}")
                seconds[name].append(asked(task, "go"))
        ends = {name: asked(task, "end") for name, task in tasks.items()}
    rates = {name: 1 / statistics.median(times) for name, times in seconds.items()}
    return _table(rates, {n: end[0] for n, end in ends.items()}, {n: end[1] for n, end in ends.items()})


def startup(model: str, images: Images, *, rounds: int = 5) -> dict[str, float]:
    """Seconds from the start of a process to the first feature, by backend; medians of rounds in turns."""
    image = next(iter(open_images(images))).id
    backends = ["torch", *(["onnx"] if _precisions(model) else [])]
    seconds: dict[str, list[float]] = {backend: [] for backend in backends}
    for _ in range(rounds + 1):
        for backend in backends:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", _FIRST_FEATURE, model, backend, image], check=True)
            seconds[backend].append(time.perf_counter() - start)
    return {backend: statistics.median(times[1:]) for backend, times in seconds.items()}  # the first fills caches


def report(rows: Sequence[Measured]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| way | images/s | to plain | of lower ceiling | of attainable | peak MB | cosine min | median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        share, attainable = (f"{v:.2f}" if v is not None else "" for v in (row.share, row.attainable))
        low, middle = (f"{v:.5f}" for v in row.cosine) if row.cosine else ("", "")
        lines.append(
            f"| {row.way} | {row.rate:.1f} | {row.ratio:.2f} | {share} | {attainable} | {row.megabytes:.0f} | {low} "
            f"| {middle} |"
        )
    return "\n".join(lines)


def _table(rates: dict[str, float], megabytes: dict[str, float], features: dict[str, Any]) -> list[Measured]:
    rows = []
    for name, rate in rates.items():
        base = rates["plain decoding" if name.endswith("decoding") else "plain"]
        share = attainable = cosine = None
        encoder = rates.get(f"{name}: encoder alone")
        if encoder is not None:
            decoding = rates["decoding"]
            share = rate / min(encoder, decoding)
            attainable = rate / (encoder * decoding / (encoder + decoding))
        if features[name] is not None:
            cosine = _cosines(features["plain"], features[name])
        rows.append(Measured(name, rate, rate / base, share, attainable, megabytes[name], cosine))
    return rows


def _cosines(expected: Features, found: Features) -> tuple[float, float]:
    a, b = expected.astype(np.float64), found.astype(np.float64)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosines.min()), float(np.median(cosines))


def _precisions(model: str) -> list[str]:
    card, folder = locate(model)
    return [name for name, file in PRECISIONS.items() if file in card.files and (folder / file).is_file()]


def _refs(images: Images, count: int | None) -> list[ImageRef]:
    refs = list(open_images(images))
    return list(islice(cycle(refs), count or len(refs)))


def _ways(model: str, images: Images, count: int | None, device: str) -> dict[str, Maker]:
    """All ways by name, each as a function and its arguments."""
    settings: dict[str, dict[str, Any]] = {"torch": {"backend": "torch", "device": device}}
    for precision in _precisions(model):
        settings[f"onnx {precision}"] = {"backend": "onnx", "device": device, "precision": precision}
    task = (model, images, count)
    ways: dict[str, Maker] = {"plain": (_plain, task), "plain decoding": (_plain_decoding, task)}
    ways["decoding"] = (_decoding, task)
    for name, how in settings.items():
        ways[name] = (_extraction, (*task, how))
        ways[f"{name}: encoder alone"] = (_encoder, (*task, how))
    return ways


def _plain(model: str, images: Images, count: int | None) -> Work:
    """Decode one by one, stack, encode: one process, eager torch."""
    import torch

    from adios_zoo.zoo.load import load_model

    torch.set_num_threads(usable_cpus())
    encoder, refs = load_model(model), _refs(images, count)

    def work() -> Features:
        batches = []
        with torch.inference_mode():
            for part in chunks(refs, _PLAIN_BATCH):
                x = torch.stack([_transformed(encoder.transform, ref) for ref in part])
                batches.append(encoder(x).numpy())
        return np.concatenate(batches)

    return work, len(refs)


def _plain_decoding(model: str, images: Images, count: int | None) -> Work:
    from adios_zoo.models.preprocess import make_transform

    transform, refs = make_transform(locate(model)[0]), _refs(images, count)

    def work() -> None:
        for ref in refs:
            _transformed(transform, ref)

    return work, len(refs)


def _transformed(transform: Transform, ref: ImageRef) -> Tensor:
    if ref.encoded is None:
        return transform(ref.read())
    with open_image(io.BytesIO(ref.encoded())) as image:
        return transform(image)


def _extraction(model: str, images: Images, count: int | None, how: dict[str, Any]) -> Work:
    extractor, refs = FeatureExtractor(model, **how), _refs(images, count)
    return lambda: np.concatenate([features for _, features in extractor._run(refs, False)]), len(refs)


def _decoding(model: str, images: Images, count: int | None) -> Work:
    from adios_zoo.features.decoding import read_pixels

    card, refs = locate(model)[0], _refs(images, count)

    def work() -> None:
        with threads(usable_cpus(), "decode") as pool:
            for _ in in_order(pool, lambda some: [read_pixels(ref, card) for ref in some], chunks(refs, 4), 8):
                pass

    return work, len(refs)


def _encoder(model: str, images: Images, count: int | None, how: dict[str, Any]) -> Work:
    from adios_zoo.models.preprocess import crop

    extractor, refs = FeatureExtractor(model, **how), _refs(images, count)
    backend = extractor.backend
    some = [crop(backend.card, ref.read()) for ref in refs[:16]]
    total = max(len(refs), 4 * backend.lanes * extractor.batch_size)  # few would leave lanes without work
    batches = [np.stack(part) for part in chunks(islice(cycle(some), total), extractor.batch_size)]

    def work() -> None:
        with threads(backend.lanes, "encode") as pool:
            for _ in in_order(pool, backend.encode, iter(batches), backend.lanes + 1):
                pass

    return work, total


def _enlarged(refs: Iterable[ImageRef], folder: Path, megapixels: float) -> str:
    for number, ref in enumerate(refs):
        image = ref.read()
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:04}.jpg", quality=90)
    return str(folder)
