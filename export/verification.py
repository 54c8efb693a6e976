"""Proof that a model folder does what its card says: hashes, strict load, golden values in every backend present."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import load_file

from adios_zoo.errors import BackendError, IntegrityError
from adios_zoo.models.card import (
    CONFIG,
    GOLDEN,
    ONNX_FOLDER,
    README,
    Card,
    Precision,
    PrecisionFacts,
    facts_of,
    onnx_encoder,
)
from adios_zoo.models.card_texts import texts_of
from adios_zoo.models.model import AdiosModel
from adios_zoo.zoo.fetch import locate
from adios_zoo.zoo.load import load_model

from .compare import TOLERANCE, session, worst_difference
from .precision import fault_of, sample_cosine
from .to_onnx import Graph, card_metadata, check_graph, graphs

_COSINE_SLACK = 1e-4


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

    Every file's length and SHA-256; ``config.json`` and ``README.md`` against the card; the strict load of encoder and
    masker; features and masks of the golden inputs in torch; each ONNX file, with the card in it, against torch on
    photographs, an encoder of lower precision within what its figures on the card say.

    Raises:
        AdiosError: there is no such model, or its card cannot be read.
    """
    card, folder = locate(os.fspath(source))
    checks = [_file(card, folder, name) for name in sorted(card.files)]
    if not card.files:
        checks.append(Check("hashes", False, "the card states none"))
    if (folder / CONFIG).is_file():  # the package's own weights have their card elsewhere
        checks += [_made_of_card(folder / name, text) for name, text in texts_of(card).items()]
    try:
        model = load_model(source)
    except IntegrityError as error:
        return [*checks, Check("load", False, str(error))]
    checks.append(Check("load", True, "every tensor as the card says"))
    checks += _golden(model, folder / GOLDEN)
    return checks + _onnx_files(model, folder)


def _onnx_files(model: AdiosModel, folder: Path) -> list[Check]:
    card, checks = model.card, []
    present = {f"{ONNX_FOLDER}/{path.name}" for path in sorted((folder / ONNX_FOLDER).glob("*.onnx"))}
    if not present:
        return []
    # Of an earlier model, perhaps.
    checks += [Check(name, False, "the card does not name it") for name in sorted(present - set(card.files))]
    looks: dict[str, Callable[[bytes], str]] = {}
    for name, graph in graphs(model).items():
        looks[f"{ONNX_FOLDER}/{name}.onnx"] = partial(_same_as_torch, graph)
    for precision in get_args(Precision):
        looks[onnx_encoder(precision)] = partial(_within_figures, model, card.precisions.get(precision))
    return checks + [_onnx(folder / name, card, look) for name, look in looks.items() if name in present]


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


def _onnx(path: Path, card: Card, look: Callable[[bytes], str]) -> Check:
    what = f"ONNX Runtime, {path.name}"
    try:
        data = path.read_bytes()
        note = look(data)
        _same_card(data, card)
    except BackendError as error:
        return Check(what, None, str(error))
    except IntegrityError as error:
        return Check(what, False, str(error))
    except Exception as error:  # ONNX Runtime has many errors for a damaged file
        return Check(what, False, f"cannot be run: {str(error).partition(chr(10))[0]}")
    return Check(what, True, note)


def _same_as_torch(graph: Graph, data: bytes) -> str:
    return f"largest difference from torch {check_graph(graph, data):.1e}"


def _within_figures(model: AdiosModel, facts: PrecisionFacts | None, data: bytes) -> str:
    if facts is None:
        raise IntegrityError("The card has no figures of it.")
    if (fault := fault_of(facts)) and not facts.forced:
        raise IntegrityError(f"The card's figures fail the gate. {fault}")
    found, stated = sample_cosine(model, data), facts.sample_cosine
    # Processors round in different ways: the angle may be somewhat larger, not another one.
    if not 1 - found <= 2 * (1 - stated) + _COSINE_SLACK:
        raise IntegrityError(f"The median cosine to torch is {found:.5f} on sample photographs, not {stated:.5f}.")
    return f"median cosine to torch {found:.5f} on sample photographs" + (
        "; it fails its gate and was written by force" if facts.forced else ""
    )


def _same_card(data: bytes, card: Card) -> None:
    inside = session(data).get_modelmeta().custom_metadata_map
    if any(inside.get(key) != value for key, value in card_metadata(card).items()):
        raise IntegrityError(f"The card in the file is not that of the folder's {CONFIG}; export it anew.")


def _made_of_card(path: Path, text: str) -> Check:
    if not path.is_file():
        return Check(path.name, False, "missing")
    found = path.read_bytes().decode(errors="replace")
    if path.name == README:  # a published one names its repository
        found = re.sub(r"hf-hub:[\w.-]+/[\w.-]+", "local-dir:THIS_FOLDER", found)
    same = found == text
    wrong = "differs from what the card gives; `adios export FOLDER -o FOLDER` writes it anew"
    return Check(path.name, same, "as the card gives it" if same else wrong)


def _file(card: Card, folder: Path, name: str) -> Check:
    path = folder / name
    if not path.is_file():
        return Check(name, False, "missing")
    same = facts_of(path) == card.files[name]
    return Check(name, same, "length and SHA-256" if same else "length or SHA-256 differ from the card")
