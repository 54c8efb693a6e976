"""Masks that nobody learns: shares, shapes, independence, and one draw whatever the number of processes."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.chance import Draws, generator_for
from adios_zoo.train.game.random_masks import RandomKind, random_masks
from torch import Tensor

KINDS: list[RandomKind] = ["none", "patches", "blocks", "boxes"]


def draws(count: int = 64, part: slice = slice(None), seed: int = 0) -> Draws:
    return Draws(generator_for(seed, "test", 0), count, part)


def masks(kind: RandomKind, size: int = 32, slots: int = 3, ratio: float = 0.4, patch: int = 4) -> Tensor:
    return random_masks(kind, size, slots, draws(), ratio=ratio, patch=patch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 37])
def test_zeros_and_ones_of_the_asked_for_shape(kind: RandomKind, size: int) -> None:
    found = masks(kind, size)
    assert found.shape == (64, 3, size, size)
    assert found.dtype == torch.float32
    assert set(found.unique().tolist()) <= {0.0, 1.0}


def test_shares() -> None:
    shares = {kind: masks(kind).mean(dim=(2, 3)) for kind in KINDS}
    assert (shares["none"] == 0).all()
    torch.testing.assert_close(shares["patches"], torch.full((64, 3), 26 / 64))
    assert (shares["blocks"] <= 26 / 64).all()
    assert shares["blocks"].mean() > 0.36
    assert (shares["boxes"] - 0.4).abs().max() < 0.03


def test_boxes_are_rectangles_everywhere_in_the_image() -> None:
    found = masks("boxes", ratio=0.1)
    assert torch.equal(found, found.amax(2, keepdim=True) * found.amax(3, keepdim=True))
    assert found.amax(dim=(0, 1, 2)).all()
    assert found.amax(dim=(0, 1, 3)).all()


@pytest.mark.parametrize("ratio", [0.02, 0.5, 0.98])
def test_extreme_shares_of_boxes_fit(ratio: float) -> None:
    share = masks("boxes", size=64, ratio=ratio).mean(dim=(2, 3))
    assert (share - ratio).abs().max() < 0.04


def test_patches_and_blocks_keep_to_the_grid() -> None:
    for kind in ("patches", "blocks"):
        found = masks(kind)  # type: ignore[arg-type]
        cells = found.unflatten(2, (8, 4)).unflatten(4, (8, 4))
        assert torch.equal(cells.amin(dim=(3, 5)), cells.amax(dim=(3, 5))), kind


def test_blocks_hang_together_more_than_patches() -> None:
    def edges(x: Tensor) -> float:
        return float(x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean())

    assert edges(masks("blocks")) < 0.7 * edges(masks("patches"))


@pytest.mark.parametrize("kind", ["patches", "blocks", "boxes"])
def test_images_and_slots_differ_and_the_draws_decide(kind: RandomKind) -> None:
    found = masks(kind)
    assert len(torch.unique(found.flatten(0, 1).flatten(1), dim=0)) > 100
    assert torch.equal(found, masks(kind))
    parts = [random_masks(kind, 32, 3, draws(part=slice(k * 16, k * 16 + 16)), ratio=0.4, patch=4) for k in range(4)]
    assert torch.equal(torch.cat(parts), found)
