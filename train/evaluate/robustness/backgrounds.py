"""The backgrounds challenge (Xiao et al., ICLR 2021): accuracy on objects whose background was changed or taken away.

Its folder holds one folder a variation, with the test images in ``val/CLASS/``; ``original`` may have ``train/``, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adios_zoo.errors import DataError

from ..table import columns, number, title
from ..task import Task
from .altered import ProbeClassifier, judge, nothing

VARIATIONS = {
    "original": "as they are",
    "mixed_same": "objects on the background of another image of their class",
    "mixed_rand": "objects on the background of an image of a random class",
    "mixed_next": "objects on the background of an image of the next class",
    "only_fg": "objects on black",
    "no_fg": "objects blacked out in their shape",
    "only_bg_b": "objects blacked out as boxes",
    "only_bg_t": "objects covered with background as boxes",
}


def evaluate_backgrounds(task: Task, folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Accuracy of a linear classifier, fitted to unchanged images, on each variation that is there.

    Args:
        task: the model and the training images, if they are not ``original/train`` of the folder; ``test`` is not used.
        folder: of the challenge.
        seed: of the classifier.

    Returns:
        Settings, records of the images, and ``accuracy`` by variation; ``bg_gap``: that of ``mixed_same`` less that of
        ``mixed_rand``, in points, ``None`` if one of them is not there.

    Raises:
        DataError: there is no variation, or the classes of the images are not the same everywhere.
    """
    found = {name: folder / name / "val" for name in VARIATIONS if (folder / name / "val").is_dir()}
    if not found:
        raise DataError(f"{folder} has no variation of the backgrounds challenge, such as original/val/CLASS/.")
    if not task.train:
        own = folder / "original" / "train"
        if not own.is_dir():
            raise DataError(f"{folder} has no original/train to fit a classifier to; give training images by --train.")
        task = replace(task, train=str(own))
    classifier = ProbeClassifier(task, seed=seed)
    judged = {name: judge(classifier, str(path), nothing) for name, path in found.items()}
    accuracy = {name: result.clean for name, result in judged.items()}
    both = accuracy.get("mixed_same"), accuracy.get("mixed_rand")
    records = {name: result.record for name, result in judged.items()}
    return {
        **task.record("robust backgrounds", train=classifier.trained_on.record, test=records),
        **classifier.facts,
        "accuracy": accuracy,
        "bg_gap": None if None in both else accuracy["mixed_same"] - accuracy["mixed_rand"],
    }


def backgrounds_table(result: Mapping[str, Any]) -> str:
    """What :func:`evaluate_backgrounds` found, as text."""
    rows = [[name, number(value), VARIATIONS[name]] for name, value in result["accuracy"].items()]
    text = f"{title(result)}\n\n{columns(['variation', 'top-1, %', ''], rows)}"
    gap = result["bg_gap"]
    return text if gap is None else f"{text}\n\nBG-gap {gap:.2f} points: mixed_same less mixed_rand"
