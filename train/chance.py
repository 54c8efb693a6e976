"""What is random in a run: a function of its seed and of what it is for, so that nothing need be saved to resume.

A batch is drawn whole and each process keeps its part, so that a run does not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Generator, Tensor

from adios_zoo.errors import ConfigError


def check_seed(seed: int) -> None:
    """Refuse, as a ConfigError, a seed that has not the 32 bits that every library takes."""
    if not 0 <= seed < 2**32:
        raise ConfigError(f"The seed is {seed}; it takes a whole number from 0 to {2**32 - 1}.")


def seed_for(seed: int, purpose: str, *number: int) -> int:
    """A seed of 64 bits that is decided by what it is for."""
    key = hashlib.sha256("/".join(map(str, (seed, purpose, *number))).encode()).digest()
    return int.from_bytes(key[:8], "little", signed=True)


def generator_for(seed: int, purpose: str, *number: int) -> Generator:
    """A CPU generator whose stream is decided by what it is for."""
    return Generator().manual_seed(seed_for(seed, purpose, *number))


@lru_cache(maxsize=2)
def epoch_order(count: int, *, seed: int, epoch: int) -> Tensor:
    """The order in which ``epoch`` visits ``count`` images."""
    return torch.randperm(count, generator=generator_for(seed, "order", epoch))


@dataclass
class Draws:
    """Random numbers for the images of one batch.

    Attributes:
        generator: on the CPU, so that every device sees the same numbers.
        count: images of the whole batch, over all processes.
        part: those of this process.
    """

    generator: Generator
    count: int
    part: slice = field(default_factory=lambda: slice(None))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, ``*shape``) numbers between ``low`` and ``high``."""
        return (low + (high - low) * torch.rand(self.count, *shape, generator=self.generator))[self.part]

    def happens(self, probability: float) -> Tensor:
        """(B,) truth values, true with this probability."""
        return (torch.rand(self.count, generator=self.generator) < probability)[self.part]

    def integers(self, below: int) -> Tensor:
        """(B,) whole numbers from 0 to ``below`` - 1."""
        return torch.randint(below, (self.count,), generator=self.generator)[self.part]


def on_device_of(x: Tensor, numbers: Tensor) -> Tensor:
    """The numbers, drawn on the CPU, on the device of ``x``, which is not waited for."""
    return numbers.to(x.device, non_blocking=True)
