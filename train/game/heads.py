"""Projectors and predictors of the three methods, layer by layer as released."""

from __future__ import annotations

from torch import nn


def projector(method: str, features: int, hidden: int, outputs: int) -> nn.Sequential:
    """The projector of ``method``: (B, features) -> (B, outputs)."""
    if method == "simclr":
        return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    if method == "byol":
        return _byol_mlp(features, hidden, outputs)
    return nn.Sequential(
        nn.Linear(features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
        nn.BatchNorm1d(outputs, affine=False),
    )


def predictor(method: str, outputs: int, hidden: int) -> nn.Sequential | None:
    """The predictor of ``method``: (B, outputs) -> (B, outputs); SimCLR has none."""
    if method == "simclr":
        return None
    if method == "byol":
        return _byol_mlp(outputs, hidden, outputs)
    return nn.Sequential(
        nn.Linear(outputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


def _byol_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
