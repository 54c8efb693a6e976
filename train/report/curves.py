"""The curves of a run, as charts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adios_zoo.pictures.draw import slot_colour

from .charts import Line, Mark, chart
from .health import slots_of
from .run_files import RunFiles

_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")


def curves(run: RunFiles) -> Iterator[str]:
    """Every chart of which the log has something."""
    each = run.facts.get("steps_per_epoch")
    x_name, unit = ("epoch", float(each)) if each else ("step", 1.0)

    def line(key: str, name: str, colour: str = _COLOURS[0]) -> Line:
        steps, values = run.log.get(key, (np.empty(0), np.empty(0)))
        return Line(name, steps / unit, values, colour)

    def draw(title: str, note: str, lines: list[Line], **more: Any) -> str:
        return chart(title, note, lines, x_name=x_name, **more)

    a, b, c, _ = _COLOURS
    yield draw(
        "The game",
        "The encoder lowers the loss; the masker raises its objective, the loss less its penalties.",
        [line("loss", "loss", a), line("objective", "objective", b)],
    )
    classes = run.facts.get("classes") or 0
    held_out = "held-out images" if run.facts.get("held_out") else "training images outside the gallery"
    yield draw(
        "What labels can be read off",
        f"k-NN over the frozen features on {held_out}; the online linear probe on its training batches.",
        [line("knn_top1", "k-NN top-1", a), line("knn_top5", "k-NN top-5", c), line("probe_accuracy", "probe", b)],
        unit=" %",
        bounds=(0.0, None),
        marks=[Mark(100 / classes, "guessing")] if classes > 1 else [],
    )
    yield draw("Linear probe", "Its cross-entropy.", [line("probe_loss", "loss of the probe", a)])
    slots = slots_of(run.log)
    yield draw(
        "Share of the pixels",
        "What each mask hides, on average over the batch.",
        [line(f"area_{k}", f"mask {k + 1}", slot_colour(k)) for k in range(slots)],
        bounds=(0.0, None),
        marks=[Mark(1 / slots, "even share")] if slots and run.learned else [],
    )
    yield draw(
        "Mask entropy",
        "0: each pixel belongs to one mask. 1: all masks share it evenly.",
        [line("mask_entropy", "mask entropy", a)],
        bounds=(0.0, 1.0),
        marks=[Mark(run.setting("watch.max_mask_entropy", 1.0), "uniform")],
    )
    yield draw(
        "Embedding deviation",
        "1: unit-length projections are spread evenly. 0: they have collapsed to a point.",
        [line("deviation", "deviation", a)],
        bounds=(0.0, 1.0),
        marks=[Mark(run.setting("watch.min_deviation", 0.0), "collapse")],
    )
    yield draw(
        "Sparsity penalty", "Large where a mask is near nothing or everything.", [line("sparsity", "sparsity", a)]
    )
    yield draw("Entropy penalty", "Of the masks' sizes, summed over the batch.", [line("entropy", "entropy", a)])
    yield draw("Learning rates", "Of every group of parameters.", _merged(run, line), bounds=(0.0, None))
    yield draw(
        "Speed",
        "Images per second of training, without what was looked at in between.",
        [line("images_per_second", "images/s", a)],
        bounds=(0.0, None),
    )


def _merged(run: RunFiles, line: Any) -> list[Line]:
    """One line for all groups that have the same learning rate throughout."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name in run.log:
        if name.startswith("lr_"):
            groups.setdefault(tuple(run.values(name)), []).append(name)
    return [
        line(same[0], ", ".join(name.removeprefix("lr_") for name in same), colour)
        for same, colour in zip(groups.values(), _COLOURS, strict=False)
    ]
