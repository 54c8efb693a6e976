"""Common corruptions (Hendrycks and Dietterich, ICLR 2019): noise, blur, weather and digital ones in five severities.

The package imagecorruptions-imaug makes them; a set that was made before, in ImageNet-C's layout, can be read instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.models.preprocess import Pixels

from ...chance import seed_for
from ..table import columns, number, title
from ..task import Task
from .altered import ProbeClassifier, judge, nothing

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "validation": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
COMMON = ("noise", "blur", "weather", "digital")
SEVERITIES = (1, 2, 3, 4, 5)
_PACKAGE = "imagecorruptions-imaug"
_LEAST_SIDE = 32  # pixels, of the package

Condition = tuple[str, int]


def evaluate_corruptions(
    task: Task,
    *,
    baseline: str | None = None,
    corruptions: Sequence[str] = COMMON,
    severities: Sequence[int] = SEVERITIES,
    made: Path | None = None,
    seed: int = 0,
    workers: int = 0,
) -> dict[str, Any]:
    """Accuracy of a linear classifier, fitted to clean images, on corrupted ones.

    Images are corrupted as the encoder is given them.  The strengths are those of ImageNet-C, made for 224 pixels: on
    smaller images the same blur takes more away, so compare models of one input size.

    Args:
        task: the model and the images.
        baseline: another model, treated alike, by whose errors those of the model are divided.
        corruptions: names, or groups, of ``GROUPS``.
        severities: of 1 to 5.
        made: a folder of images in ImageNet-C's layout, CORRUPTION/SEVERITY/CLASS/FILE, which are judged instead of
            corrupting the test images; corruptions and severities that it lacks are left out.
        seed: of what is random.
        workers: processes that corrupt images; 0 does it in this one.

    Returns:
        Settings, records of the images, ``clean`` accuracy, ``accuracy`` by corruption and severity, and ``mean``, of
        the corruptions' means over the severities.  With a baseline all that of it, too, and ``error``, see
        :func:`corruption_errors`.  All in percent.

    Raises:
        ConfigError: unknown corruptions or severities, an input too small for them, or an impossible number.
        BackendError: the package is missing.
        DataError: images without labels, or which cannot be read.
    """
    if workers < 0:
        raise ConfigError(f"workers is {workers} and takes 0 or more.")
    wanted = [(name, severity) for name in _names(corruptions) for severity in _severities(severities)]
    folders = None if made is None else _folders(made, wanted)
    other = None if baseline is None else replace(task, model=baseline, random_seed=None)
    for one in (task, other):
        if one is not None and folders is None:
            _check_package(one.card.input_size)  # before hours of work
    result = _judged(task, wanted, folders, seed=seed, workers=workers)
    if other is not None:
        found = _judged(other, wanted, folders, seed=seed, workers=workers)
        result |= {"baseline": found, "error": corruption_errors(result, found)}
    return result


def corruption_errors(model: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """Errors over those of a baseline, both summed over the severities, as Hendrycks and Dietterich define them.

    Args:
        model: ``clean`` and ``accuracy`` by corruption and severity, in percent.
        baseline: the same, of the same corruptions and severities.

    Returns:
        By corruption ``ce``, and ``relative_ce``: of how much the errors are above that on clean images; and their
        means.  In percent; ``None`` where the baseline has nothing to divide by.
    """
    ce, relative = {}, {}
    for corruption, row in model["accuracy"].items():
        own, other = ([100 - value for value in r.values()] for r in (row, baseline["accuracy"][corruption]))
        ce[corruption] = _ratio(sum(own), sum(other))
        relative[corruption] = _ratio(
            sum(own) - len(own) * (100 - model["clean"]), sum(other) - len(other) * (100 - baseline["clean"])
        )
    return {
        "ce": ce,
        "relative_ce": relative,
        "mean_ce": _mean_of_known(ce.values()),
        "mean_relative_ce": _mean_of_known(relative.values()),
    }


def corrupt(pixels: Pixels, first: int, condition: Condition, *, seed: int) -> Pixels:
    """Images (n, S, S, 3) uint8 corrupted, each as the seed, the corruption and its number from ``first`` decide."""
    from imagecorruptions import corrupt

    name, severity = condition
    before = np.random.get_state()  # the package draws from numpy's common numbers, which are not ours to change
    try:
        found = []
        for number, image in enumerate(pixels, first):
            start = seed_for(seed, name, number) % 2**32
            np.random.seed(start)
            own = {"seed": start} if name in ("glass_blur", "impulse_noise") else {}
            found.append(corrupt(image, severity, name, **own))
    finally:
        np.random.set_state(before)
    return np.stack(found)


def _judged(
    task: Task, wanted: list[Condition], folders: dict[Condition, Path] | None, *, seed: int, workers: int
) -> dict[str, Any]:
    """Settings and accuracies of one model."""
    classifier = ProbeClassifier(task, seed=seed)
    corrupted: object = "as the encoder is given them"
    if folders is not None:
        found = judge(classifier, task.test, nothing)
        read = {condition: judge(classifier, str(path), nothing) for condition, path in folders.items()}
        altered = {condition: judged.clean for condition, judged in read.items()}
        corrupted = [judged.record for judged in read.values()]
    elif workers:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = judge(classifier, task.test, partial(_corrupted, wanted, seed, pool.map))
        altered = found.altered
    else:
        found = judge(classifier, task.test, partial(_corrupted, wanted, seed, map))
        altered = found.altered
    accuracy: dict[str, dict[str, float]] = {}
    for (name, severity), value in altered.items():
        accuracy.setdefault(name, {})[str(severity)] = value
    means = [sum(row.values()) / len(row) for row in accuracy.values()]
    return {
        **task.record(
            "robust corruptions",
            packages=[] if folders else [_PACKAGE],
            train=classifier.trained_on.record,
            test=found.record,
        ),
        **classifier.facts,
        "corrupted": corrupted,
        "clean": found.clean,
        "accuracy": accuracy,
        "mean": sum(means) / len(means),
        "drop": found.drop(sum(means) / len(means)),
    }


def _corrupted(
    wanted: list[Condition], seed: int, each: Any, images: Tensor, first: int
) -> Iterator[tuple[Condition, Tensor]]:
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    work = partial(corrupt, pixels, first, seed=seed)
    for condition, altered in zip(wanted, each(work, wanted), strict=True):
        yield condition, torch.from_numpy(altered).permute(0, 3, 1, 2).contiguous()


def _names(corruptions: Sequence[str]) -> list[str]:
    known = [name for names in GROUPS.values() for name in names]
    for name in corruptions:
        if name not in (*known, *GROUPS):
            raise ConfigError(f"There is no corruption {name!r}; use names or groups of: {_described()}.")
    wanted = {one for name in corruptions for one in GROUPS.get(name, (name,))}
    return [name for name in known if name in wanted]


def _described() -> str:
    return "; ".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items())


def _severities(severities: Sequence[int]) -> list[int]:
    for severity in severities:
        if severity not in SEVERITIES:
            raise ConfigError(f"The severities are whole numbers from 1 to 5, not {severity}.")
    return sorted(set(severities))


def _folders(made: Path, wanted: list[Condition]) -> dict[Condition, Path]:
    found = {(name, severity): made / name / str(severity) for name, severity in wanted}
    found = {condition: path for condition, path in found.items() if path.is_dir()}
    if not found:
        raise DataError(f"{made} has no folder CORRUPTION/SEVERITY such as {'/'.join(map(str, wanted[0]))}.")
    return found


def _check_package(side: int) -> None:
    if side < _LEAST_SIDE:
        raise ConfigError(f"Images are corrupted at {_LEAST_SIDE} pixels or more; the model takes {side}.")
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:
        raise BackendError(f"Corruptions need the package {_PACKAGE}: pip install 'adios-zoo[evaluate]'.") from error


def _ratio(own: float, other: float) -> float | None:
    return 100 * own / other if other > 0 else None


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def corruptions_table(result: Mapping[str, Any]) -> str:
    """What :func:`evaluate_corruptions` found, as text."""
    severities = sorted({severity for row in result["accuracy"].values() for severity in row})
    headings, rows = (
        ["corruption", *severities],
        [[name, *(number(row.get(severity)) for severity in severities)] for name, row in result["accuracy"].items()],
    )
    lines = [
        f"{title(result)}\n\nTop-1 accuracy in % by severity:\n",
        f"\n{result['clean']:.2f} on clean images, {result['mean']:.2f} on corrupted ones, the mean of all corruptions",
    ]
    if "error" in result:
        errors = result["error"]
        headings += ["CE", "relative CE"]
        rows = [[*row, number(errors["ce"][row[0]]), number(errors["relative_ce"][row[0]])] for row in rows]
        both = f"mCE {number(errors['mean_ce'])}, relative mCE {number(errors['mean_relative_ce'])}"
        lines.append(f"{both}, against {result['baseline']['model']}")
    lines.insert(1, columns(headings, rows))
    return "\n".join(lines)
