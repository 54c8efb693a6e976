"""Which images each batch of a run takes, and what its random numbers are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adios_zoo.errors import ConfigError

from ..chance import Draws, epoch_order, generator_for
from ..processes import Processes
from ..recipe.settings import Recipe


@dataclass(frozen=True)
class Plan:
    """Which images each batch takes and what its random numbers are; batches count from 0 over the whole run.

    Attributes:
        recipe: decides them.
        count: images of the data.
        processes: share each batch.
    """

    recipe: Recipe
    count: int
    processes: Processes

    def __post_init__(self) -> None:
        """Refuse batches that cannot be made."""
        r = self.recipe
        self.processes.part(r.batch_size)
        if not self.steps_per_epoch:
            what = f"{r.accumulate} batches" if r.accumulate > 1 else "A batch"
            raise ConfigError(f"{what} of {r.batch_size} images: larger than the data, which have {self.count}.")

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; what is left over at its end is left out."""
        return self.count // (self.recipe.batch_size * self.recipe.accumulate)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.steps_per_epoch * self.recipe.accumulate

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.recipe.epochs

    @property
    def batches(self) -> int:
        """Batches of the whole run."""
        return self.batches_per_epoch * self.recipe.epochs

    @property
    def part(self) -> slice:
        """The images of a batch that fall to this process."""
        return self.processes.part(self.recipe.batch_size)

    def epoch(self, number: int) -> int:
        """The epoch of batch ``number``."""
        return number // self.batches_per_epoch

    def size(self, number: int) -> int:
        """Side of the views of batch ``number``."""
        return self.recipe.size_in(self.epoch(number))

    def chosen(self, number: int) -> Tensor:
        """Places in the data of this process's images of batch ``number``."""
        r, place = self.recipe, number % self.batches_per_epoch
        order = epoch_order(self.count, seed=r.seed, epoch=self.epoch(number))
        return order[place * r.batch_size : (place + 1) * r.batch_size][self.part]

    def draws(self, number: int, purpose: str = "batch") -> Draws:
        """The random numbers of batch ``number``."""
        r = self.recipe
        return Draws(generator_for(r.seed, purpose, number), r.batch_size, self.part)
