"""Nothing in a step reads a value back from the device: on a GPU each would have to be waited for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adios_zoo.train.data.batches import Batch
from adios_zoo.train.data.plan import Plan
from adios_zoo.train.processes import Processes
from adios_zoo.train.run.trainer import Trainer
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.small import small_recipe

# .item(), float(), int() and branches; indices of what is true; shapes that depend on values.
READERS = (
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.masked_select",
    "aten.is_nonzero",
    "aten.equal",
    "aten._unique2",
)


class _NoReader(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not str(func).startswith(READERS), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class _Given:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.failures: list[tuple[str, str]] = []

    def __call__(self, number: int, draws: object) -> Batch:
        return self.batch


@pytest.mark.parametrize("use", ["all", "one"])
@pytest.mark.parametrize("method", ["simclr", "byol", "simsiam"])
@pytest.mark.parametrize("mode", ["all", "clean"])
def test_a_step_waits_for_nothing(method: str, use: str, mode: str) -> None:
    heads = {"projector_hidden": 16, "projector_output": 8, "predictor_hidden": 8}
    recipe = small_recipe(probe=True, game={"method": method, "mask_use": use, "bn_statistics": mode, **heads})
    trainer = Trainer(Plan(recipe, 8, Processes()), classes=3)
    views = {v: torch.randn(8, 3, 32, 32) for v in (1, 2)}
    batch = Batch(views, torch.arange(8) % 3, torch.arange(8))
    with _NoReader():
        for step in range(2):
            trainer.step(step, _Given(batch))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_waits_for_nothing() -> None:
    recipe = small_recipe(probe=True)
    device = torch.device("cuda")
    trainer = Trainer(Plan(recipe, 8, Processes(device)), classes=3)
    views = {v: torch.randn(8, 3, 32, 32, device=device) for v in (1, 2)}
    given = _Given(Batch(views, torch.arange(8, device=device) % 3, torch.arange(8)))
    trainer.step(0, given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(1, given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
