"""What one call of the extractor gives: rows as they come, and the images that it had to leave out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TypeAlias

from adios_zoo.features.journal import Failure
from adios_zoo.features.write_file import Features

Batch: TypeAlias = tuple[list[str], Features]


class FeatureStream(Iterator[Batch]):
    """An iterator of (ids, features (b, D)), in the order of the images.

    What failed belongs to the call, not to the extractor, which other threads may use at the same time.

    Attributes:
        failures: (id, reason) of the images left out so far, in order: all that come before the last row given, and
            at the end all.
    """

    def __init__(self, run: Callable[[list[Failure]], Generator[Batch, None, None]]) -> None:
        """Begin; ``run`` appends to the list that it is given, before it yields the batch that comes after."""
        self.failures: list[Failure] = []
        self._batches = run(self.failures)

    def __next__(self) -> Batch:
        """The next batch."""
        return next(self._batches)

    def close(self) -> None:
        """Stop here, and let go of the threads; an iterator that nobody holds any more does so by itself."""
        self._batches.close()
