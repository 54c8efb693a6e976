"""The figures of an evaluation as a table of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {"acc1": "top-1 accuracy, %", "acc5": "top-5 accuracy, %", "accuracy": "accuracy, %"}


def table(result: Mapping[str, Any]) -> str:
    """What was evaluated in a line, then a line for each figure: its mean over the seeds and their deviation.

    Args:
        result: a record with ``evaluation``, ``model``, ``protocol``, records of images by role, and ``figures``, each
            a number or what :func:`~adios_zoo.train.probe.task.over_seeds` makes of several.
    """
    roles = [f"{result[role]['images']} {role}" for role in ("train", "test") if role in result]
    random = ", random weights" if result.get("random_seed") is not None else ""
    augmented = " on augmented images" if result.get("augmented") else ""
    title = f"{result['evaluation']}{augmented} of {result['model']}{random}, protocol {result['protocol']}, "
    title += f"{' and '.join(roles)} images"
    names = [_name(name) for name in result["figures"]]
    width = max(map(len, names), default=0)
    lines = [f"  {name:<{width}}  {_value(v)}" for name, v in zip(names, result["figures"].values(), strict=True)]
    return "\n".join([title, *lines, *([f"  chosen on {result['chosen_on']}"] if "chosen_on" in result else [])])


def _name(name: str) -> str:
    *role, figure = name.split(" ")
    return " ".join([*role, _WORDS.get(figure, figure)])


def _value(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
    mean, count = value["mean"], len(value["values"])
    digits = 4 if abs(mean) < 1 else 2
    spread = "" if value["std"] is None else f" ± {value['std']:.{digits}f}  ({count} seeds)"
    return f"{mean:.{digits}f}{spread}"
