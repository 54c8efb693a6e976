"""What holes show, and that the masks' gradients are those of the plain formula."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.game.blur import gaussian_blur
from adios_zoo.train.game.fills import cut_out, fill_of
from adios_zoo.train.recipe.settings import Fill

FILLS: list[Fill] = ["zero", "mean", "blur", "high_pass"]


def images() -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("fill", FILLS)
def test_an_empty_mask_leaves_the_image_and_a_full_one_shows_the_fill(fill: Fill) -> None:
    x = images()
    found = fill_of(x, fill, 0.1)
    assert torch.equal(cut_out(x, torch.zeros(4, 1, 16, 16, dtype=x.dtype), found), x)
    shown = cut_out(x, torch.ones(4, 1, 16, 16, dtype=x.dtype), found)
    expected = {
        "zero": torch.zeros_like(x),
        "mean": x.mean(dim=(2, 3), keepdim=True).expand_as(x),
        "blur": gaussian_blur(x, torch.full((4,), 1.6, dtype=x.dtype), 1.6),
        "high_pass": x - gaussian_blur(x, torch.full((4,), 1.6, dtype=x.dtype), 1.6),
    }[fill]
    torch.testing.assert_close(shown, expected)


@pytest.mark.parametrize("fill", FILLS)
def test_gradients_reach_the_mask_as_the_formula_says(fill: Fill) -> None:
    x, weights = images(), images().flip(0)
    mask = torch.rand(4, 1, 16, 16, dtype=x.dtype).requires_grad_()
    found = fill_of(x, fill, 0.1)
    (cut_out(x, mask, found) * weights).sum().backward()
    shown = torch.zeros_like(x) if found is None else found
    torch.testing.assert_close(mask.grad, ((shown - x) * weights).sum(1, keepdim=True))


def test_blur_and_high_pass_add_up_to_the_image() -> None:
    x = images()
    blur, detail = fill_of(x, "blur", 0.2), fill_of(x, "high_pass", 0.2)
    assert blur is not None
    assert detail is not None
    torch.testing.assert_close(blur + detail, x)
    assert blur.std() < x.std() / 2
