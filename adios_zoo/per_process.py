"""Open files and caches that neither a fork nor a pickle may carry into another process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes its value anew in every process; ``make`` must be picklable.

    After a fork the child leaves the parent's value alone, so that it neither shares a file position nor waits
    for a lock that some thread of the parent held.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[int, T] | None = None

    def __call__(self) -> T:
        """Return this process's value."""
        made = self._made
        if made is None or made[0] != os.getpid():
            # Two threads at once may make two; the later one stays, and both are of use.
            made = self._made = (os.getpid(), self._make())
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the value out of a pickle."""
        return {"_make": self._make, "_made": None}
