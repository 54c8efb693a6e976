"""Accuracy under occlusion, corruptions and other backgrounds."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.probe.robust import occluded
from torch import Tensor

from adios_zoo.errors import ConfigError


def images(count: int = 3, size: int = 16) -> Tensor:
    return torch.full((count, 3, size, size), 200, dtype=torch.uint8)


def hidden(pictures: Tensor) -> Tensor:
    return (pictures != 200).all(dim=1)


@pytest.mark.parametrize("kind", ["patches", "block"])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_each_image_is_hidden(kind: str, share: float) -> None:
    given = images()
    gone = hidden(occluded(given, share, kind=kind)).float().mean(dim=(1, 2))
    assert gone.tolist() == pytest.approx([share] * 3, abs=0.05)
    assert (given == 200).all()


def test_what_is_hidden_shows_the_fill_and_all_else_the_image() -> None:
    found = occluded(images(1), 0.25, kind="block", fill=(1.0, 0.0, 0.2))[0]
    assert found[:, 8, 8].tolist() == [255, 0, 51]
    assert (found[:, 4:12, 4:12] != 200).all()
    assert int((found[0] != 200).sum()) == 64


def test_a_larger_share_hides_more_of_the_same() -> None:
    for kind in ("patches", "block"):
        less, more = (hidden(occluded(images(), share, kind=kind)) for share in (0.3, 0.6))
        assert bool((more | ~less).all())
        assert more.sum() > less.sum()


def test_patches_follow_from_the_seed_and_the_number_of_the_image() -> None:
    whole = hidden(occluded(images(5), 0.5, seed=3))
    assert torch.equal(whole[2:], hidden(occluded(images(3), 0.5, seed=3, first=2)))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, hidden(occluded(images(5), 0.5, seed=4)))


def test_patches_are_squares_of_the_given_size() -> None:
    cells = hidden(occluded(images(), 0.5, patch=4)).unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).float().mean(dim=3)
    assert set(cells.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"share": 1.1}, {"kind": "stripes"}, {"patch": 0}, {"patch": 17}])
def test_impossible_occlusions(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        occluded(images(), **{"share": 0.5, **wrong})
