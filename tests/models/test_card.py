"""Cards: strict about every key, and refusing what could do harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adios_zoo.errors import CardError
from adios_zoo.models.card import card_of_folder, parse_card
from adios_zoo.models.card_texts import config_of
from tests.small_models import small_card


def changed(**changes: Any) -> dict[str, Any]:
    data = json.loads(json.dumps(small_card().to_dict()))
    data.update(changes)
    return data


def test_plain_data_and_back() -> None:
    card = small_card(recipe={"lr": 0.1}, model_args={"a": 1})
    assert parse_card(json.loads(json.dumps(card.to_dict())), what="c") == card


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(inputsize=3), "inputsize is unknown; did you mean input_size?"),
        (changed(method="moco"), "method must be one of"),
        (changed(input_size="64"), "input_size must be a whole number"),
        (changed(input_size=10**9), "input_size must be from 1 to 4096"),
        (changed(masker={"image_size": 64}), "masker.slots is missing"),
        (changed(mean=[0.5]), "a list of 3"),
        (changed(crop_pct=1e-6), "more than 8192 pixels"),
        (changed(std=[0.2, 0.0, 0.2]), "std above 0"),
        (changed(mean=[0.2, float("nan"), 0.2]), "must be finite"),
        (changed(files={"../evil": {"bytes": 1, "sha256": "0"}}), "not a plain file name"),
        (changed(files={"a": {"bytes": -1.5, "sha256": "0"}}), "whole number"),
        (changed(figures=[{"name": "x"}]), "figures\\[0\\].value is missing"),
        ([1, 2], "must be a mapping"),
        (None, "must be a mapping"),
    ],
)
def test_mistakes(data: object, words: str) -> None:
    with pytest.raises(CardError, match=words):
        parse_card(data, what="c")


def test_all_mistakes_at_once() -> None:
    with pytest.raises(CardError) as caught:
        parse_card(changed(method="moco", colour="red", mean=3), what="c")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["", "{", '{"architecture": "resnet18"}', "[]", "[" * 100_000])
def test_folders_with_other_configs(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CardError):
        card_of_folder(tmp_path)


def test_timms_part_of_the_config() -> None:
    config = config_of(small_card(architecture="resnet18", crop_pct=0.375, input_size=96))
    assert config["architecture"] == "resnet18"
    cfg = config["pretrained_cfg"]
    assert (cfg["input_size"], cfg["crop_pct"], cfg["classifier"]) == ([3, 96, 96], 0.375, "fc")
