"""Evaluation by weighted k nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from adios_zoo.errors import ConfigError
from adios_zoo.search.knn import Cell, Distance, knn_grid

from ..task import Task


def evaluate_knn(task: Task, cells: Sequence[Cell] | None = None) -> dict[str, Any]:
    """k-NN accuracy of a model, with all settings and fingerprints of the data.

    Args:
        task: the model and the images.
        cells: settings, by default the protocol's.  Of several the best one's figures are reported: it has then been
            chosen on the test images, which the record says, and all are listed.

    Raises:
        ConfigError: an impossible setting.
        DataError: images without labels, or classes that differ.
    """
    cells = list(task.protocol.cells if cells is None else cells)
    if not cells:
        raise ConfigError("k-NN takes at least one k, one distance and one temperature.")
    train, test = task.sets
    device = "cpu" if task.stored else next(task.encoder.parameters()).device
    found = knn_grid(
        train.features.to(device), train.labels.to(device), test.features.to(device), test.labels.to(device), cells
    )
    best = max(range(len(cells)), key=lambda i: found[i].acc1)  # the first of several
    record = task.record("knn", train=train.record, test=test.record) | asdict(cells[best])
    if len(cells) > 1:
        grid = [{**asdict(cell), **asdict(accuracy)} for cell, accuracy in zip(cells, found, strict=True)]
        record |= {"chosen_on": f"the test images: the best of {len(cells)} settings by their top-1", "cells": grid}
    return {**record, "figures": asdict(found[best])}


def grid(
    cells: Sequence[Cell],
    *,
    k: Sequence[int] | None = None,
    distances: Sequence[Distance] | None = None,
    temperatures: Sequence[float] | None = None,
) -> list[Cell]:
    """The settings of a protocol with other neighbours, distances or temperatures, each with each.

    Raises:
        ConfigError: temperatures without a cosine to use them.
    """
    distances = distances or list(dict.fromkeys(cell.distance for cell in cells))
    if temperatures and "cosine" not in distances:
        raise ConfigError("Temperatures are of cosine votes; leave them out, or add the distance cosine.")
    ks = k or list(dict.fromkeys(cell.k for cell in cells))
    temperatures = temperatures or list(dict.fromkeys(c.temperature for c in cells if c.temperature is not None))
    found: list[Cell] = []
    for distance in distances:
        of_distance: Sequence[float | None] = temperatures if distance == "cosine" else [None]
        found += [Cell(number, distance, temperature) for number in ks for temperature in of_distance]
    return found
