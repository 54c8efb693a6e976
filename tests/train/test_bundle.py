"""A trained model goes into the package: half-precision weights, a card whose files and figures are its own."""

from __future__ import annotations

from pathlib import Path

import torch
from adios_zoo.train.bundle import bundle
from safetensors.torch import load_file

from adios_zoo.model_card import facts_of, parse_card, read_json
from tests.models import saved_model
from tests.train.small import write_images


def test_a_model_is_bundled(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    source = write_images(tmp_path / "data.parquet")
    card = bundle(
        folder,
        train=source,
        test=source,
        shown=("parquet:$A", "parquet:$B"),
        aliases=("short",),
        package=tmp_path / "p",
    )
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
