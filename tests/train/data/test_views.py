"""Batched augmentation against torchvision's, image by image, and its distributions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from adios_zoo.train.chance import Draws
from adios_zoo.train.data.views import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    crop_boxes,
    draw_views,
    resized_crop,
    to_grey,
    views_of_crops,
)
from adios_zoo.train.game.blur import gaussian_blur
from adios_zoo.train.recipe.settings import ViewSettings
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode

PLAIN = ViewSettings(min_scale=1.0, flip=0, jitter=0, grey=0, blur=0)
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(seeded(seed), count)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (24, 3, 48, 64), dtype=torch.uint8, generator=seeded())


@pytest.mark.parametrize("size", [24, 32, 80])
def test_crops_equal_torchvisions(images: Tensor, size: int) -> None:
    boxes = crop_boxes((48, 64), ViewSettings(), draws(len(images), 1))
    flip = torch.arange(len(images)) % 2 == 0
    found = resized_crop(images, boxes, flip, size)
    for i, (top, left, height, width) in enumerate(boxes.int().tolist()):
        expected = tv.resized_crop(
            images[i].float() / 255, top, left, height, width, [size, size], InterpolationMode.BICUBIC, antialias=True
        ).clamp(0, 1)
        expected = expected.flip(-1) if flip[i] else expected
        assert (found[i] - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (adjust_brightness, tv.adjust_brightness, 0.0, 2.0),
        (adjust_contrast, tv.adjust_contrast, 0.0, 2.0),
        (adjust_saturation, tv.adjust_saturation, 0.0, 2.0),
        (adjust_hue, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_colours_equal_torchvisions(
    images: Tensor, ours: Callable[..., Tensor], theirs: Callable[..., Tensor], low: float, high: float
) -> None:
    x = images.float() / 255
    factors = torch.linspace(low, high, len(x)).view(-1, 1, 1, 1)
    found = ours(x, factors)
    for i, factor in enumerate(factors.flatten().tolist()):
        assert (found[i] - theirs(x[i], factor)).abs().max() < 1e-5


def test_grey_equals_torchvisions(images: Tensor) -> None:
    x = images.float() / 255
    assert (to_grey(x) - tv.rgb_to_grayscale(x, num_output_channels=3)).abs().max() < 1e-5


def test_blur_equals_torchvisions_away_from_the_edges() -> None:
    x = torch.rand(6, 3, 40, 40, generator=seeded())
    sigma = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 0.0])
    found = gaussian_blur(x, sigma, 2.0)
    for i, s in enumerate(sigma.tolist()):
        expected = tv.gaussian_blur(x[i], [13, 13], [s, s]) if s else x[i]
        assert (found[i] - expected)[:, 7:-7, 7:-7].abs().max() < 1e-5


def test_a_view_with_nothing_to_do_is_the_image(images: Tensor) -> None:
    square = images[..., :48]
    assert torch.allclose(draw_views(square, 48, PLAIN, draws(len(square)), **UNIT), square.float() / 255, atol=1e-6)


def test_normalisation(images: Tensor) -> None:
    x = draw_views(images[..., :48], 48, PLAIN, draws(len(images)), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
    plain = images[..., :48].float() / 255
    expected = (plain - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.1, 0.2, 0.4])[:, None, None]
    assert torch.allclose(x, expected, atol=1e-5)


def test_boxes_have_the_asked_for_scale_and_ratio_and_fit() -> None:
    settings = ViewSettings(min_scale=0.25, max_scale=0.5)
    top, left, height, width = crop_boxes((64, 64), settings, draws(4000)).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 64).all()
    assert (left + width <= 64).all()
    share = height * width / 64**2
    assert 0.23 < share.min() < 0.27
    assert 0.48 < share.max() < 0.52
    assert abs(share.mean() - 0.375) < 0.01
    assert ((width / height).log().mean()).abs() < 0.02


def test_an_image_too_narrow_for_any_draw_gives_its_centre() -> None:
    boxes = crop_boxes((10, 100), ViewSettings(min_scale=0.9), draws(5))
    assert boxes.tolist() == [[0, 43, 10, 13]] * 5


@pytest.mark.parametrize("name", ["flip", "grey", "solarise"])
def test_probabilities(name: str) -> None:
    settings = {"min_scale": 1.0, "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, name: 0.3}
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=seeded()).expand(3000, -1, -1, -1)
    views = draw_views(image, 16, ViewSettings(**settings), draws(len(image)), **UNIT)
    changed = (views - image / 255).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 0.26 < changed.float().mean() < 0.34


def test_jitter_draws_parameters_for_each_image(images: Tensor) -> None:
    same = images[:1, :, :, :48].expand(32, -1, -1, -1)
    views = draw_views(
        same, 48, ViewSettings(min_scale=1.0, flip=0, jitter=1, grey=0, blur=0), draws(len(same)), **UNIT
    )
    assert len({round(float(v.mean()), 5) for v in views}) > 25
    again = draw_views(
        same, 48, ViewSettings(min_scale=1.0, flip=0, jitter=1, grey=0, blur=0), draws(len(same)), **UNIT
    )
    assert torch.equal(views, again)


def test_a_process_draws_its_part_of_the_whole_batch() -> None:
    batch = torch.randint(0, 256, (8, 3, 40, 40), dtype=torch.uint8, generator=seeded())
    settings = ViewSettings(solarise=0.5)
    whole = draw_views(batch, 24, settings, draws(8), **UNIT)
    part = draw_views(batch[2:5], 24, settings, Draws(seeded(), 8, slice(2, 5)), **UNIT)
    torch.testing.assert_close(part, whole[2:5], rtol=0, atol=1e-5)


def test_views_of_crops_are_what_follows_the_crop() -> None:
    batch = torch.randint(0, 256, (8, 3, 24, 24), dtype=torch.uint8, generator=seeded())
    settings = ViewSettings(min_scale=1.0, max_scale=1.0)
    crops = views_of_crops(batch, settings, draws(8), **UNIT)
    plain = views_of_crops(batch, PLAIN, draws(8), **UNIT)
    assert torch.equal(plain, batch.float() / 255)
    flipped = views_of_crops(batch, ViewSettings(min_scale=1.0, flip=1, jitter=0, grey=0, blur=0), draws(8), **UNIT)
    assert torch.equal(flipped, batch.flip(-1).float() / 255)
    assert not torch.equal(crops, plain)


def test_a_blur_does_not_depend_on_the_rest_of_the_batch() -> None:
    noise = torch.rand(2, 3, 40, 40, generator=seeded())
    alone = gaussian_blur(noise[:1], torch.tensor([1.0]), 2.0)
    together = gaussian_blur(noise, torch.tensor([1.0, 2.0]), 2.0)
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-6)
