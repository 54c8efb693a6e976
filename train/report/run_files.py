"""What the folder of a run tells, whether the run goes on, has ended or was killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.telling import tell

from .pictures import Picture, read_picture
from .record import Column, columns_of, read_records

_MOST_PICTURES = 12


@dataclass(frozen=True)
class RunFiles:
    """What a run's folder tells.

    Attributes:
        name: of the folder.
        recipe: plain data, with every setting.
        log: its numbers by name.
        sessions: their beginnings and ends, in order.
        pictures: mask pictures, evenly chosen, in order.
        unreadable: images that could not be read.
    """

    name: str
    recipe: dict[str, Any]
    log: dict[str, Column]
    sessions: list[dict[str, Any]]
    pictures: list[Picture]
    unreadable: int

    @property
    def facts(self) -> dict[str, Any]:
        """Of the latest session's beginning."""
        return next((s for s in reversed(self.sessions) if "started" in s), {})

    @property
    def step(self) -> int:
        """Steps that were taken, as far as the folder tells."""
        # A record is of a step that was taken then; a look is between steps.
        logged = [int(self.log[name].steps[-1]) + (name == "loss") for name in ("loss", "knn_top1") if name in self.log]
        return max([*logged, *[int(s.get("step", 0)) for s in self.sessions[-1:]]], default=0)

    @property
    def learned(self) -> bool:
        """Whether a masker is trained, rather than masks drawn at random."""
        return bool(self.setting("masker.kind", "learned") == "learned")

    def values(self, name: str) -> list[float]:
        """The values of one name in the log, in order."""
        return self.log[name].values.tolist() if name in self.log else []

    def setting(self, path: str, default: Any = None) -> Any:
        """A setting by its dotted name; runs of other versions may lack it."""
        value: Any = self.recipe
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return default if value is None else value


def read_run(folder: Path) -> RunFiles:
    """Read what a run's folder tells.

    Raises:
        ConfigError: the folder holds no run.
    """
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} is not the folder of a run: it has no readable recipe.json.") from error
    pictures = []
    for path in spread(sorted((folder / "pictures").glob("epoch-*.png")), _MOST_PICTURES):
        try:
            pictures.append(read_picture(path))
        except DataError as error:
            tell(error)
    try:
        unreadable = len((folder / "unreadable.tsv").read_bytes().splitlines())
    except FileNotFoundError:
        unreadable = 0
    return RunFiles(
        name=folder.resolve().name,
        recipe=recipe if isinstance(recipe, dict) else {},
        log=columns_of(read_records(folder / "log.jsonl")),
        sessions=read_records(folder / "sessions.jsonl"),
        pictures=pictures,
        unreadable=unreadable,
    )


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly chosen, first and last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]
