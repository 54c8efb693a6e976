"""LARS against the authors' optimiser on prescribed gradients."""

from __future__ import annotations

import pytest
import torch
from adios_zoo.train.game.optim import LARS
from torch import nn

from tests.conftest import golden
from tests.reference import read

HEADER, TENSORS = read(golden("lars.safetensors") / "lars.safetensors")


@pytest.mark.parametrize("setting", sorted(HEADER["settings"]))
def test_three_steps(setting: str) -> None:
    rule = HEADER["settings"][setting]
    names = list(HEADER["group_of"])
    weights = {name: nn.Parameter(TENSORS[f"init.{name}"].clone()) for name in names}
    groups = [
        {**group, "params": [weights[n] for n in names if HEADER["group_of"][n] == number]}
        for number, group in enumerate(HEADER["groups"])
    ]
    optimiser = LARS(
        groups,
        lr=1.0,
        momentum=HEADER["momentum"],
        eta=rule["eta"],
        clip=rule["clip"],
        exclude_1d=rule["exclude_bias_n_norm"],
    )
    for step in range(HEADER["steps"]):
        for name, weight in weights.items():
            gradient = TENSORS.get(f"grad.{name}")
            weight.grad = None if gradient is None else gradient[step].clone()
        optimiser.step()
        for name, weight in weights.items():
            torch.testing.assert_close(
                weight.detach(), TENSORS[f"{setting}.{name}"][step], rtol=1e-5, atol=1e-6, msg=name
            )


def test_closure_gives_its_loss() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimiser = LARS([weight], lr=0.1)

    def closure() -> float:
        loss = (weight**2).sum()
        loss.backward()
        return float(loss.detach())

    assert optimiser.step(closure) == 4.0
    assert (weight < 1).all()
