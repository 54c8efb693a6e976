"""The named protocols are what the documentation says of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from adios_zoo.train.evaluate.protocol import Training, protocol

from adios_zoo.errors import ConfigError
from adios_zoo.search.knn import Cell
from tests.small_models import small_card


def test_standard_and_paper() -> None:
    standard, paper = protocol(), protocol("paper")
    card = small_card(crop_pct=0.375, crop_mode="squash")
    assert standard.preprocessing(card) == card.replace(crop_pct=0.875, crop_mode="center")
    assert paper.preprocessing(card) == card
    assert protocol("paper", crop_pct=0.5).preprocessing(card).crop_pct == 0.5
    assert standard.cells == (Cell(20, "cosine", 0.07),)
    assert len(set(paper.cells)) == 5 * 6 + 5
    assert (standard.all_classes, paper.all_classes) == (True, False)


def test_rates_of_the_authors() -> None:
    linear, finetune = protocol("paper").linear, protocol("paper").finetune
    assert [linear.rate(e) for e in (0, 59.9, 60, 79.9, 80, 99)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert finetune.rate(0) == 0
    assert finetune.rate(9) == finetune.rate(10) == 0.5
    assert finetune.rate(105) == pytest.approx(0.25)
    assert finetune.rate(200) == pytest.approx(0)


@pytest.mark.parametrize("epochs", [1, 3, 10, 30])
def test_a_short_fine_tuning_warms_up_too(epochs: int) -> None:
    finetune = replace(protocol("paper").finetune, epochs=epochs)
    rates = [finetune.rate(step / 1000) for step in range(1000 * epochs)]
    peak = rates.index(max(rates))
    assert rates[0] == 0
    assert 0 < peak <= max(0.05 * epochs, 1) * 1000
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert max(abs(b - a) for a, b in pairwise(rates)) < 0.02


def test_sizes_share_the_epochs() -> None:
    training = Training(epochs=5, lr=1.0, schedule="cosine", sizes=(16, 24))
    assert training.first_epochs() == {0: 16, 3: 24}
    assert Training(epochs=5, lr=1.0, schedule="cosine").first_epochs() == {}


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"lr": 0.0}, {"batch_size": 0}, {"sizes": (4,)}, {"sizes": (32,) * 3}, {"weight_decay": -1.0}],
)
def test_what_cannot_be_run(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Training(**{"epochs": 2, "lr": 1.0, "schedule": "cosine", **changes})


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="standard, paper"):
        protocol("best")
    with pytest.raises(ConfigError, match="crop_pct"):
        protocol(crop_pct=1.5)
