"""Proof that a model folder does what its card says: hashes, strict load, golden values in every backend present."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from adios_zoo.errors import BackendError, IntegrityError
from adios_zoo.fetch import locate
from adios_zoo.model import AdiosModel, load_model
from adios_zoo.model_card import GOLDEN, ONNX_FOLDER, Card, facts_of

from .compare import TOLERANCE, worst_difference
from .to_onnx import Graph, check_graph, graphs


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: its name.
        passed: whether it is as it should be; ``None`` if it could not be looked at here.
        note: the largest difference, or what is wrong.
    """

    what: str
    passed: bool | None
    note: str


def verify(source: str | os.PathLike[str]) -> list[Check]:
    """Check a model by name or folder.

    Every file's length and SHA-256; the strict load of encoder and masker; features and masks of the golden inputs
    in torch; each ONNX file against torch on photographs.

    Raises:
        AdiosError: there is no such model, or its card cannot be read.
    """
    card, folder = locate(os.fspath(source))
    checks = [_file(card, folder, name) for name in sorted(card.files)]
    if not card.files:
        checks.append(Check("hashes", False, "the card states none"))
    try:
        model = load_model(source)
    except IntegrityError as error:
        return [*checks, Check("load", False, str(error))]
    checks.append(Check("load", True, "every tensor as the card says"))
    checks += _golden(model, folder / GOLDEN)
    for name, graph in graphs(model).items():
        path = folder / ONNX_FOLDER / f"{name}.onnx"
        if path.is_file():
            checks.append(_onnx(path, graph))
    return checks


def _golden(model: AdiosModel, path: Path) -> list[Check]:
    if not path.is_file():
        return [Check("golden values", False, f"there is no {path.name}")]
    try:
        expected = load_file(path)
        with torch.inference_mode():
            x = expected["pixel_values"]
            found = {"features": model(x)}
            if model.masker is not None:
                found["masks"] = model.masks(x)
        differences = {n: worst_difference(expected[n].numpy(), value.numpy()) for n, value in found.items()}
    except Exception as error:  # whatever damaged golden values lead to
        return [Check("golden values", False, f"cannot be recomputed: {error}")]
    return [Check(f"torch, golden {n}", d <= TOLERANCE, f"largest difference {d:.1e}") for n, d in differences.items()]


def _onnx(path: Path, graph: Graph) -> Check:
    what = f"ONNX Runtime, {path.name}"
    try:
        return Check(what, True, f"largest difference from torch {check_graph(graph, path.read_bytes()):.1e}")
    except BackendError as error:
        return Check(what, None, str(error))
    except IntegrityError as error:
        return Check(what, False, str(error))
    except Exception as error:  # ONNX Runtime has many errors for a damaged file
        return Check(what, False, f"cannot be run: {str(error).splitlines()[0]}")


def _file(card: Card, folder: Path, name: str) -> Check:
    path = folder / name
    if not path.is_file():
        return Check(name, False, "missing")
    same = facts_of(path) == card.files[name]
    return Check(name, same, "length and SHA-256" if same else "length or SHA-256 differ from the card")
