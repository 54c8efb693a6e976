"""The figures of an evaluation as a table of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = {"acc1": "top-1 accuracy, %", "acc5": "top-5 accuracy, %", "accuracy": "accuracy, %"}


def table(result: Mapping[str, Any]) -> str:
    """What was evaluated in a line, then a line for each figure: its mean over the seeds and their deviation.

    Args:
        result: a record with ``evaluation``, ``model``, ``protocol``, records of images by role, and ``figures``, each
            a number or what :func:`~adios_zoo.train.evaluate.task.over_seeds` makes of several.
    """
    names = [_name(name) for name in result["figures"]]
    width = max(map(len, names), default=0)
    lines = [f"  {name:<{width}}  {_value(v)}" for name, v in zip(names, result["figures"].values(), strict=True)]
    return "\n".join(
        [title(result), *lines, *([f"  chosen on {result['chosen_on']}"] if "chosen_on" in result else [])]
    )


def title(result: Mapping[str, Any]) -> str:
    """What was evaluated, in a line."""
    roles = [f"{result[role]['images']} {role}" for role in ("train", "test") if "images" in result.get(role, {})]
    random = ", random weights" if result.get("random_seed") is not None else ""
    augmented = " on augmented images" if result.get("augmented") else ""
    judged = result["model"] or result.get("predicted") or "stored features"
    what = f"{result['evaluation']}{augmented} of {judged}{random}, protocol {result['protocol']}"
    return f"{what}, {' and '.join(roles)} images" if roles else what


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells as there are headings; the first column is flush left, the others are flush right."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    lines = []
    for first, *others in (headings, *rows):
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def number(value: float | None) -> str:
    """A figure with two decimals, ``-`` where there is none."""
    return "-" if value is None else f"{value:.2f}"


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
