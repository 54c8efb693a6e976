"""Encoders of lower precision: made from the float32 ONNX file, measured against it, written if they pass their gate.

===========================  ============================================================================
file                         how it is made
===========================  ============================================================================
``onnx/encoder_fp16.onnx``   :mod:`.half`
``onnx/encoder_int8.onnx``   :mod:`.quantise`; convolutional networks need calibration images
===========================  ============================================================================

The gate: the median cosine of features to those of float32 on held-back images is at least :data:`LEAST_COSINE`, and
k-NN loses at most :data:`MOST_KNN_DROP` points where these images have labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from adios_zoo.errors import ConfigError, IntegrityError
from adios_zoo.files import replacing
from adios_zoo.images.image import ImageRef
from adios_zoo.models.card import Precision, PrecisionFacts, card_of_folder, check_facts, onnx_encoder
from adios_zoo.models.model import AdiosModel, write_card
from adios_zoo.search.knn import knn
from adios_zoo.sources.open import open_source
from adios_zoo.sources.source import Source
from adios_zoo.telling import progress_bar
from adios_zoo.zoo.load import load_model

from .compare import photographs, session
from .half import METHOD as HALF
from .half import half
from .quantise import is_static, method, quantise_dynamic, quantise_static
from .to_onnx import PooledAndDense, card_metadata, with_metadata

LEAST_COSINE = 0.995
MOST_KNN_DROP = 1.0  # points
CALIBRATION = 512  # images at most
HELD_BACK = 10_000
NEIGHBOURS = 20

_SAMPLES = 32  # crops of sample photographs
_BATCH = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What :func:`write_precisions` will do.

    Attributes:
        precisions: to be made, beside float32.
        calibration: images that set ranges.
        held_back: others, that judge; crops of sample photographs do if there are none.
    """

    precisions: tuple[Precision, ...]
    calibration: tuple[ImageRef, ...]
    held_back: tuple[ImageRef, ...]


@dataclass(frozen=True)
class Outcome:
    """One precision: its figures, and what of its gate it fails, if anything.

    Attributes:
        facts: as they go to the card; ``forced`` if it fails and was written.
        fault: one sentence; empty if it passes.
    """

    facts: PrecisionFacts
    fault: str

    @property
    def written(self) -> bool:
        """Whether the file was written."""
        return not self.fault or self.facts.forced


def plan_precisions(
    source: str | os.PathLike[str] | AdiosModel,
    precisions: Sequence[str],
    *,
    calibration: str | None = None,
    holdout: str | None = None,
) -> Plan:
    """Look at everything that is asked for before minutes are spent on it.

    Args:
        source: of the model.
        precisions: ``fp32`` (which is always written), ``fp16``, ``int8``.
        calibration: images, see :func:`adios_zoo.sources.open.open_source`; a fifth of them is held back for the gate
            unless ``holdout`` is given.
        holdout: images for the gate; with labels for k-NN too.

    Raises:
        ConfigError: an unknown precision, calibration images that are needed and not given, or images for nothing.
        DataError: there are no such images.
    """
    known = get_args(Precision)
    if unknown := [p for p in precisions if p not in ("fp32", *known)]:
        raise ConfigError(f"Precision {unknown[0]!r} is unknown; it is one of fp32, {', '.join(known)}.")
    wanted: tuple[Precision, ...] = tuple(p for p in known if p in precisions)
    if not wanted:
        if calibration or holdout:
            raise ConfigError("Images calibrate and judge fp16 and int8; ask for one of them with --precision.")
        return Plan((), (), ())
    model = source if isinstance(source, AdiosModel) else load_model(source)
    if "int8" in wanted and is_static(model.encoder) and calibration is None:
        raise ConfigError(
            f"int8 of {model.card.architecture} needs images that set its activations' ranges: give some hundreds, "
            "like those that it will see, with --calibration SOURCE."
        )
    calibrating, held_back = _chosen(calibration, CALIBRATION + CALIBRATION // 4), _chosen(holdout, HELD_BACK)
    if not held_back:
        # The rest are those that calibrate.
        held_back = calibrating[4::5]
        calibrating = [ref for i, ref in enumerate(calibrating) if i % 5 != 4]
    return Plan(wanted, tuple(calibrating[:CALIBRATION]), tuple(held_back))


def write_precisions(
    plan: Plan, folder: str | os.PathLike[str], *, force: bool = False, progress: bool = False
) -> dict[Precision, Outcome]:
    """Make, measure and write the encoders of a plan, and state their figures on the card.

    Args:
        plan: of :func:`plan_precisions`.
        folder: of the model, with ``onnx/encoder.onnx``.
        force: write what fails its gate, too; the card says so.
        progress: draw a progress bar.

    Raises:
        ImageError: an image cannot be read.
        IntegrityError: ``onnx/encoder.onnx`` is not the one that the card describes.
    """
    out = Path(folder)
    if not plan.precisions:
        return {}
    model, card = load_model(f"local-dir:{out}"), card_of_folder(out)
    float32 = _float32(out)
    made = {p: _make(p, model, float32, plan) for p in plan.precisions}
    features, labels = _measure({"fp32": float32, **{p: data for p, (data, _) in made.items()}}, model, plan, progress)
    outcomes: dict[Precision, Outcome] = {}
    for precision, (data, how) in made.items():
        facts = PrecisionFacts(
            how,
            images=len(plan.held_back),
            cosine=_rounded(median_cosine(features["fp32"], features[precision])),
            sample_cosine=_rounded(sample_cosine(model, data)),
            **_knn_facts(features["fp32"], features[precision], labels),
        )
        fault = fault_of(facts)
        outcomes[precision] = outcome = Outcome(replace(facts, forced=bool(fault) and force), fault)
        if outcome.written:
            with replacing(out / onnx_encoder(precision)) as file:
                file.write(with_metadata(data, {**card_metadata(card), "adios.precision": precision}))
    written = {p: outcome.facts for p, outcome in outcomes.items() if outcome.written}
    write_card(
        card.replace(precisions={**card.precisions, **written}), out, also=[out / onnx_encoder(p) for p in written]
    )
    return outcomes


def fault_of(facts: PrecisionFacts) -> str:
    """What of the gate these figures fail, as a sentence; empty if they pass."""
    if not facts.cosine >= LEAST_COSINE:
        return f"The median cosine to float32 is {facts.cosine:.4f}, less than {LEAST_COSINE}."
    if facts.knn is not None and facts.knn_fp32 is not None and not facts.knn_fp32 - facts.knn <= MOST_KNN_DROP:
        return (
            f"k-NN falls from {facts.knn_fp32:.2f} % to {facts.knn:.2f} %, by more than {MOST_KNN_DROP:g} point on "
            f"{facts.labelled} images."
        )
    return ""


def median_cosine(expected: Floats, found: Floats) -> float:
    """Median over the rows of the cosine between two arrays (n, ...); 0 where a row vanishes or is not finite."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (expected, found))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return float(np.median(np.where(np.isfinite(cosines), cosines, 0)))


def sample_cosine(model: AdiosModel, data: bytes) -> float:
    """Median cosine of an ONNX encoder to torch on crops of sample photographs: the worse of features and dense."""
    x = photographs(_SAMPLES, (3, model.card.input_size, model.card.input_size), torch.float32)
    runtime, outputs = session(data), ["features", "dense"]
    expected, found = [], []
    for batch in torch.split(x, _BATCH):
        with torch.inference_mode():
            expected.append([t.numpy() for t in PooledAndDense(model.encoder)(batch)])
        found.append(runtime.run(outputs, {"pixel_values": batch.numpy()}))
    pairs = zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True)
    return min(median_cosine(np.concatenate(a), np.concatenate(b)) for a, b in pairs)


def _chosen(spec: str | None, most: int) -> list[ImageRef]:
    """Images of a source, evenly spread over it, for it may be in the order of its classes."""
    if spec is None:
        return []
    source: Source = open_source(spec)
    count = min(most, len(source))
    return [source[i * len(source) // count] for i in range(count)]


def _float32(folder: Path) -> bytes:
    name = onnx_encoder("fp32")
    path, files = folder / name, card_of_folder(folder).files
    if name not in files or not path.is_file():
        raise IntegrityError(f"{folder} has no {name} that its card names; write it with `adios export` first.")
    check_facts(path, files[name])
    return path.read_bytes()


def _make(precision: Precision, model: AdiosModel, float32: bytes, plan: Plan) -> tuple[bytes, str]:
    """The graph of a precision and how it was made."""
    if precision == "fp16":
        return half(float32), HALF
    if not is_static(model.encoder):
        return quantise_dynamic(float32), method(0)
    return quantise_static(float32, list(_batches(model, plan.calibration))), method(len(plan.calibration))


def _measure(
    encoders: Mapping[str, bytes], model: AdiosModel, plan: Plan, progress: bool
) -> tuple[dict[str, Floats], torch.Tensor]:
    """Features (n, D) of the held-back images by each encoder, and their labels (n,)."""
    sessions = {name: session(data) for name, data in encoders.items()}
    rows: dict[str, list[Floats]] = {name: [] for name in sessions}
    side = model.card.input_size
    batches: Iterator[Floats] = _batches(model, plan.held_back)
    labels, count = torch.tensor([ref.label for ref in plan.held_back]), len(plan.held_back)
    if not plan.held_back:
        samples = photographs(_SAMPLES, (3, side, side), torch.float32)
        batches, labels, count = (
            (b.numpy() for b in torch.split(samples, _BATCH)),
            torch.full((_SAMPLES,), -1),
            _SAMPLES,
        )
    with progress_bar(total=count, show=progress, unit="image", dynamic_ncols=True) as bar:
        for batch in batches:
            for name, runtime in sessions.items():
                rows[name] += runtime.run(["features"], {"pixel_values": batch})
            bar.update(len(batch))
    return {name: np.concatenate(parts) for name, parts in rows.items()}, labels


def _batches(model: AdiosModel, refs: Sequence[ImageRef]) -> Iterator[Floats]:
    remaining = iter(refs)
    while chunk := list(islice(remaining, _BATCH)):
        yield torch.stack([model.transform(ref.read()) for ref in chunk]).numpy()


def _knn_facts(expected: Floats, found: Floats, labels: torch.Tensor) -> dict[str, Any]:
    known = labels >= 0
    if int(known.sum()) < 2 * NEIGHBOURS:
        return {}
    knn_fp32, lower = (_halves(torch.from_numpy(x)[known], labels[known]) for x in (expected, found))
    return {"labelled": int(known.sum()), "knn": _rounded(lower), "knn_fp32": _rounded(knn_fp32)}


def _halves(features: torch.Tensor, labels: torch.Tensor) -> float:
    """k-NN top-1 in percent: the even rows are judged by the odd ones, and the other way round."""
    parts = [(features[i::2], labels[i::2]) for i in (0, 1)]
    right = sum(knn(*votes, *judged, k=NEIGHBOURS).acc1 * len(judged[1]) for votes, judged in (parts, reversed(parts)))
    return right / len(labels)


def _rounded(value: float) -> float:
    return round(value, 6)
