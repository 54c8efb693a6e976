"""A trained model goes into the package: half-precision weights, a card whose files and figures are its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adios_zoo.train.release.bundle import bundle
from safetensors.torch import load_file

from adios_zoo.errors import AdiosError, DataError
from adios_zoo.models.card import Card, facts_of, parse_card, read_json
from tests.small_models import saved_model
from tests.train.small import write_images


def put(folder: Path, *, test: str = "") -> Card:
    """Bundle a small model into ``folder / "p"``."""
    source = write_images(folder / "data.parquet")
    return bundle(
        saved_model(folder / "model"),
        train=source,
        test=test or source,
        shown=("parquet:$A", "parquet:$B"),
        aliases=("short",),
        zoo=folder / "p",
    )


def test_a_model_is_bundled(tmp_path: Path) -> None:
    card = put(tmp_path)
    written = tmp_path / "p" / "cards" / f"{card.name}.json"
    assert parse_card(read_json(written), what="card") == card
    assert (card.origin, card.aliases, card.license) == ("bundled", ("short",), "MIT")
    weights = tmp_path / "p" / "weights" / card.name
    assert {path.name: facts_of(path) for path in weights.iterdir()} == card.files
    floats = [v for v in load_file(weights / "model.safetensors").values() if v.is_floating_point()]
    assert {v.dtype for v in floats} == {torch.float16}
    assert [figure.name for figure in card.figures] == [
        f"{name}{what}"
        for name in ("k-NN top-1", "linear probe top-1")
        for what in ("", ", random initialisation", ", margin over random")
    ]
    for trained, random, margin in (card.figures[:3], card.figures[3:]):
        assert round(trained.value - random.value, 2) == margin.value
        assert random.command == f"{trained.command} --random"
    assert card.figures[0].command == 'adios evaluate knn --model short --train "parquet:$A" --test "parquet:$B"'
    assert card.figures[3].command == 'adios evaluate linear --model short --train "parquet:$A" --test "parquet:$B"'


def test_nothing_is_replaced_by_what_is_no_better_or_cannot_be_measured(tmp_path: Path) -> None:
    card = put(tmp_path)
    before = {path: facts_of(path) for path in (tmp_path / "p").rglob("*.*")}
    with pytest.raises(AdiosError, match="not above the"):
        put(tmp_path)
    with pytest.raises(DataError):
        put(tmp_path, test="parquet:absent.parquet")
    assert {path: facts_of(path) for path in (tmp_path / "p").rglob("*.*")} == before

    worse = replace(card.figures[0], value=card.figures[0].value - 1)
    written = tmp_path / "p" / "cards" / f"{card.name}.json"
    written.write_text(json.dumps(card.replace(figures=(worse, *card.figures[1:])).to_dict()))
    assert put(tmp_path) == card
