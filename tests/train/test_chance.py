"""Randomness that depends on the seed and on what it is for alone."""

from __future__ import annotations

import torch
from adios_zoo.train.chance import Draws, epoch_order, generator_for


def test_every_epoch_visits_every_image_once_in_an_order_of_its_own() -> None:
    first, second = epoch_order(50, seed=3, epoch=0), epoch_order(50, seed=3, epoch=1)
    assert sorted(first.tolist()) == list(range(50))
    assert first.tolist() != second.tolist()
    assert torch.equal(first, epoch_order(50, seed=3, epoch=0))


def test_generators_differ_by_purpose_and_number() -> None:
    numbers = {
        float(torch.rand((), generator=generator_for(seed, purpose, number)))
        for seed in (0, 1)
        for purpose in ("order", "step")
        for number in (0, 1)
    }
    assert len(numbers) == 8


def test_the_parts_of_a_batch_make_the_whole() -> None:
    whole = Draws(generator_for(0, "batch", 1), 6)
    parts = [Draws(generator_for(0, "batch", 1), 6, part) for part in (slice(0, 2), slice(2, 6))]
    for draw in (
        lambda d: d.uniform(-1, 3, 2),
        lambda d: d.happens(0.5),
        lambda d: d.integers(4),
    ):
        assert torch.equal(draw(whole), torch.cat([draw(d) for d in parts]))


def test_numbers_lie_where_they_should() -> None:
    draws = Draws(generator_for(0, "batch", 1), 2000)
    x = draws.uniform(-1, 3)
    assert -1 <= float(x.min()) < -0.9
    assert 2.9 < float(x.max()) < 3
    assert 0.25 < float(draws.happens(0.3).float().mean()) < 0.35
    assert draws.integers(3).unique().tolist() == [0, 1, 2]
