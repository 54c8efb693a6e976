"""The zoo's names and the facts on its cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

import adios_zoo
from adios_zoo.errors import CardError, UnknownModelError
from adios_zoo.models.masker import Masker
from adios_zoo.zoo import registry
from adios_zoo.zoo.registry import bundled_folder, list_models

OFFICIAL = {
    f"{arch}_{data}_{method}"
    for arch, data in (("resnet18", "in100"), ("resnet18", "in100s"), ("vit_tiny", "in100s"))
    for method in ("simclr", "byol", "simsiam")
}


def test_names_and_aliases() -> None:
    names = list_models()
    assert names == sorted(names)
    assert set(names) > OFFICIAL
    assert adios_zoo.card("resnet18_in100").name == "resnet18_in100_byol"
    assert adios_zoo.card("resnet18_tin200").name == "resnet18_tin200_simclr"
    assert list_models("vit_*_simclr") == ["vit_tiny_in100s_simclr"]


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_facts_of_the_authors_releases(name: str) -> None:
    card = adios_zoo.card(name)
    small = "in100s" in name
    assert card.std == (0.228, 0.224, 0.225)
    assert (card.input_size, card.input_size / card.crop_pct) == ((96, 256) if small else (224, 256))
    assert card.mask_use == ("all" if small else "one")
    folder = "imagenet100s" if small else "imagenet100"
    kind = "adios" if small else "adioss"
    vit = "_vit" if name.startswith("vit") else ""
    assert card.source is not None
    assert card.source.endswith(f"/pretrained_models/{folder}/{card.method}_{kind}_{folder}{vit}.zip")
    assert card.masker.blocks == (4 if card.method == "simsiam" else 5 if small else 6)
    assert "not stated" in card.license
    assert card.recipe["batch_size"] == 128
    assert card.origin == "release"


@pytest.mark.parametrize("name", list_models())
def test_every_card_makes_its_networks(name: str) -> None:
    facts = adios_zoo.card(name).masker
    masker = Masker(facts.image_size, facts.slots, facts.base_channels, facts.norm, facts.blocks).eval()
    with torch.inference_mode():
        assert masker(torch.zeros(1, 3, facts.image_size, facts.image_size)).shape[1] == facts.slots


@pytest.mark.parametrize("change", [{"name": "resnet18_in100_byol", "aliases": []}, {"aliases": ["resnet18_in100"]}])
def test_a_name_is_there_once(change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = registry._ZOO / "cards"
    (tmp_path / "cards").mkdir()
    for path in cards.glob("resnet18_in100_*.json"):
        data = json.loads(path.read_text())
        if path.stem == "resnet18_in100_simclr":
            data |= change
        (tmp_path / "cards" / path.name).write_text(json.dumps(data))
    monkeypatch.setattr(registry, "_ZOO", tmp_path)
    with pytest.raises(CardError, match=r"resnet18_in100(_byol)? is a name or an alias of"):
        registry.cards.__wrapped__()


def test_unknown_names() -> None:
    with pytest.raises(UnknownModelError, match="did you mean vit_tiny_in100s"):
        adios_zoo.card("vit_tiny_in10s")
    with pytest.raises(UnknownModelError, match="adios list"):
        adios_zoo.card("qqqqqq")


def bundled() -> list[str]:
    return [n for n in list_models() if adios_zoo.card(n).origin == "bundled" and adios_zoo.card(n).name == n]


def test_the_bundled_files_are_those_of_their_cards() -> None:
    assert bundled() == ["resnet18_tin200_simclr"]
    total = 0
    for name in bundled():
        card = adios_zoo.card(name)
        folder = bundled_folder(card)
        assert folder is not None
        assert {p.name for p in folder.iterdir()} == set(card.files)
        for file, facts in card.files.items():
            data = Path(folder / file).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (facts.bytes, facts.sha256)
            total += len(data)
    assert total < 30e6


def test_the_bundled_card_has_its_figures() -> None:
    card = adios_zoo.card("resnet18_tin200")
    figures = {f.name: f for f in card.figures}
    trained, random = figures["k-NN top-1"], figures["k-NN top-1, random initialisation"]
    assert trained.value - random.value == pytest.approx(figures["k-NN top-1, margin over random"].value, abs=0.01)
    assert trained.value > random.value + 3
    assert all(f.command.startswith("adios ") for f in card.figures)
    assert {"images", "epochs", "hours", "seed"} <= set(card.training)
    assert card.recipe["game"]["method"] == "simclr"
