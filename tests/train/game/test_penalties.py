"""The masker's penalties at their ends."""

from __future__ import annotations

import math

import pytest
import torch
from adios_zoo.train.game.penalties import entropy, sparsity


def test_sparsity_is_least_for_half_and_large_for_none_and_all() -> None:
    assert float(sparsity([torch.tensor([[0.5, 0.5]])])) == pytest.approx(2)
    at = [float(sparsity([torch.tensor([[a]])])) for a in (0.0, 1e-3, 0.1, 0.9, 0.999, 1.0)]
    assert at[0] > at[1] > at[2] > 1
    assert at[5] > at[4] > at[3] > 1


def test_entropy_is_negative_and_least_for_even_areas() -> None:
    even, uneven = torch.full((2, 4), 0.25), torch.tensor([[0.97, 0.01, 0.01, 0.01]] * 2)
    assert float(entropy([even], jointly=True)) == pytest.approx(-2 * math.log(4))
    assert float(entropy([uneven], jointly=True)) > float(entropy([even], jointly=True))
