"""Convolutions as matrix products against torch's."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from adios_zoo.train.run.small_maps import fast_small_maps
from torch.nn import functional as F

CPU = torch.device("cpu")
SHAPES = [  # height, width, kernel, stride, padding
    (1, 1, 3, 1, 1),
    (2, 2, 3, 1, 1),
    (1, 2, 3, 1, 1),
    (4, 4, 3, 2, 1),
    (2, 2, 3, 2, 1),
    (3, 3, 3, 1, 0),
    (2, 2, 1, 2, 0),
    (4, 2, (4, 2), (4, 2), 0),
    (2, 2, 5, 1, 2),
    (5, 4, (5, 3), 1, (0, 1)),
]


def gradients(x, weight, bias, **arguments):
    x, weight, bias = (t.clone().requires_grad_() for t in (x, weight, bias))
    y = F.conv2d(x, weight, bias, **arguments)
    (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    return y.detach(), x.grad, weight.grad, bias.grad


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "padding"), SHAPES)
def test_results_and_gradients_are_the_convolutions(height, width, kernel, stride, padding):
    torch.manual_seed(0)
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    x = torch.randn(3, 4, height, width, dtype=torch.float64)
    weight, bias = torch.randn(5, 4, *kernel, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    wanted = gradients(x, weight, bias, stride=stride, padding=padding)
    with fast_small_maps(CPU), patch("torch.nn.functional.linear", wraps=F.linear) as linear:
        found = gradients(x, weight, bias, stride=stride, padding=padding)
    assert linear.call_count == wanted[0].shape[2] * wanted[0].shape[3]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": 1},  # nine positions
        {"padding": "same"},
        {"dilation": 2, "padding": 2, "stride": 2},
        {"stride": 4, "padding": 4},  # positions that see nothing but padding
    ],
)
def test_what_is_no_small_map_stays_a_convolution(arguments):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 3, 3), torch.randn(4, 4, 3, 3)
    wanted = F.conv2d(x, weight, **arguments)
    with fast_small_maps(CPU), patch("torch.nn.functional.linear") as linear:
        torch.testing.assert_close(F.conv2d(x, weight, **arguments), wanted)
    linear.assert_not_called()


def test_groups_stay_a_convolution():
    x, weight = torch.randn(2, 4, 1, 1), torch.randn(4, 2, 3, 3)
    with fast_small_maps(CPU):
        torch.testing.assert_close(F.conv2d(x, weight, padding=1, groups=2), F.conv2d(x, weight, padding=1, groups=2))


def test_other_devices_are_left_alone():
    with fast_small_maps(torch.device("meta")), patch("torch.nn.functional.linear") as linear:
        F.conv2d(torch.randn(2, 4, 1, 1), torch.randn(4, 4, 3, 3), padding=1)
    linear.assert_not_called()
