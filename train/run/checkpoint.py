"""A checkpoint: one safetensors file with all tensors of a run, its progress and recipe in the header.

What is random in a run is a function of its seed and of how far it is, so progress alone resumes it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from adios_zoo.errors import ConfigError, IntegrityError
from adios_zoo.files import write_tensors
from adios_zoo.models.fit import fill

from ..report.progress import Progress


def save_checkpoint(
    path: Path, game: nn.Module, optimisers: dict[str, Optimizer], progress: Progress, recipe: dict[str, Any]
) -> None:
    """Write the checkpoint atomically; the previous one is intact until the new one is whole."""
    tensors = {f"game.{name}": tensor for name, tensor in game.state_dict().items()}
    names: dict[Tensor, str] = {p: name for name, p in game.named_parameters()}
    for label, optimiser in optimisers.items():
        for p, state in optimiser.state.items():
            for key, value in state.items():
                tensors[f"{label}.{key}.{names[p]}"] = value
    write_tensors(path, tensors, {"progress": json.dumps(asdict(progress)), "recipe": json.dumps(recipe)})


def read_recipe_of(path: Path) -> dict[str, Any]:
    """The recipe that a checkpoint was made with."""
    with _opened(path) as file:
        return _stated(file, path, "recipe")


def load_checkpoint(path: Path, game: nn.Module, optimisers: dict[str, Optimizer]) -> Progress:
    """Put networks and optimisers where the checkpoint left them; strict about every tensor.

    Raises:
        IntegrityError: the file is damaged or has other tensors than the run.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stated = _stated(file, path, "progress")
    try:
        progress = Progress(**stated)
    except TypeError as error:
        raise IntegrityError(f"{path} is a checkpoint of another version: {error}.") from error
    parts: dict[str, dict[str, Tensor]] = {"game": {}, **{label: {} for label in optimisers}}
    for name, tensor in tensors.items():
        owner, _, rest = name.partition(".")
        if owner not in parts:
            raise IntegrityError(f"{path} holds {name}, which no part of this run has.")
        parts[owner][rest] = tensor
    fill(game, parts.pop("game"), what=str(path))
    parameters = dict(game.named_parameters())
    for label, state in parts.items():
        for name, tensor in state.items():
            key, _, parameter = name.partition(".")
            p = parameters.get(parameter)
            if p is None or p.shape != tensor.shape:
                raise IntegrityError(f"{path} holds {label}.{name}, which fits no parameter of this run.")
            optimisers[label].state[p][key] = torch.empty_like(p).copy_(tensor)
    return progress


def _stated(file: Any, path: Path, what: str) -> dict[str, Any]:
    try:
        return dict(json.loads(file.metadata()[what]))
    except (TypeError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path} is not a checkpoint of a run: its header has no {what}.") from error


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no checkpoint {path} to resume from.") from error
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a whole checkpoint: {error}.") from error
