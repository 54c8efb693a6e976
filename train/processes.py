"""The processes of one run: one, or as many as ``torchrun`` or ``accelerate launch`` started.

Accelerate finds the devices and brings the processes together.  The networks are not wrapped: the game runs many
small backward passes in a turn, and their gradients are averaged once, when the turn is over (a wrapper would
send them after each).  A batch is split evenly; batch norms see the whole of it, SimCLR its negatives too, so that a
run computes the same, but for round-off, whatever the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from adios_zoo.errors import BackendError, ConfigError
from adios_zoo.features.torch_backend import choose_device

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Processes:
    """One of ``count`` processes; by itself it is the only one.

    Attributes:
        device: where this process computes.
        rank: its number, from 0.
        count: how many there are.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    @property
    def on_cpu(self) -> bool:
        """Whether numbers can be looked at without waiting for a device."""
        return self.device.type == "cpu"

    def part(self, images: int) -> slice:
        """The part of a batch of so many images that falls to this process.

        Raises:
            ConfigError: it cannot be split evenly.
        """
        if images % self.count:
            raise ConfigError(f"batch_size {images} cannot be split among {self.count} processes; choose a multiple.")
        share = images // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def gather(self, x: Tensor) -> Tensor:
        """The rows of all processes, in order, with gradient to one's own."""
        return x if self.count == 1 else cast("Tensor", _Gather.apply(x, self.rank, self.count))

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, without gradient."""
        if self.count == 1:
            return x
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes; all at once, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        means = self.sum(torch.cat([g.flatten() for g in gradients])) / self.count
        for gradient in gradients:
            mean, means = means[: gradient.numel()], means[gradient.numel() :]
            gradient.copy_(mean.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process; all must ask at the same time."""
        return flag if self.count == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def collected(self, items: Sequence[Any]) -> list[Any]:
        """The items of all processes, by process; all must ask at the same time."""
        if self.count == 1:
            return list(items)
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, list(items))
        return [item for part in found for item in part]

    def synced(self, network: Network) -> Network:
        """The network with batch norms that see the whole batch, where the device has such layers."""
        if self.count == 1 or self.device.type != "cuda":
            return network
        import timm.layers

        return cast("Network", cast("Any", timm.layers).convert_sync_batchnorm(network))

    def synced_batch_norm(self) -> AbstractContextManager[object]:
        """Within, batch norms see the whole batch on devices that :meth:`synced` has no layers for."""
        if self.count == 1 or self.device.type == "cuda":
            return nullcontext()
        return _SyncedBatchNorm(self.count)

    def wait(self) -> None:
        """Go on when all have come so far."""
        if self.count > 1:
            dist.barrier()


def start_processes(device: str) -> Processes:
    """Join the other processes, if this one was started with some.

    Args:
        device: ``cpu``, ``cuda``, ... or ``auto``; several processes on GPUs take one each.

    Raises:
        BackendError: the device, or Accelerate, is not available here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(choose_device(device))
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise BackendError('Several processes need Accelerate: pip install "adios-zoo[distributed]".') from error
    state = PartialState(cpu=choose_device(device).type == "cpu")
    return Processes(state.device, state.process_index, state.num_processes)


def is_main_process() -> bool:
    """Whether this process is the one that speaks, by what started it."""
    return int(os.environ.get("RANK", "0")) == 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, count: int) -> Tensor:
        ctx.rank, ctx.count = rank, count
        rows = [torch.empty_like(x) for _ in range(count)]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # Every process computes the same loss from the same rows, so each knows the gradient of its own; the
        # average over the processes that follows divides by their number.
        return gradients[0].chunk(ctx.count)[ctx.rank] * ctx.count, None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


# torch's own modes are not annotated, hence the ignores.
class _SyncedBatchNorm(TorchFunctionMode):
    """Batch normalisation over all processes, for whatever module calls for it; torch has it for GPUs alone."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return self._normalise(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _normalise(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        n = self.count * x.numel() // x.shape[1]
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        mean = _total(wide.sum(axes)) / n
        centred = wide - mean.view(shape)
        var = _total(centred.square().sum(axes)) / n
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(var * n / (n - 1), momentum)
        y = centred * (var + eps).rsqrt().view(shape)
        if weight is not None and bias is not None:
            y = y * weight.view(shape) + bias.view(shape)
        return y.to(x.dtype)


def _total(x: Tensor) -> Tensor:
    return cast("Tensor", _Sum.apply(x))
