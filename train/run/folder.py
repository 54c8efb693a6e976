"""The folder of a run: what lies where, and who may go on in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from adios_zoo.errors import ConfigError
from adios_zoo.files import write_text

from ..processes import Processes
from ..recipe.recipe import parse_recipe
from ..recipe.settings import Recipe
from .checkpoint import read_recipe_of


@dataclass
class Run:
    """A run in its folder.

    ``recipe.json``, ``log.jsonl``, ``sessions.jsonl``, ``pictures/``, ``checkpoint.safetensors``; at the end
    ``report.html`` and ``model/``.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint."""
        return self.folder / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        """One JSON record a line."""
        return self.folder / "log.jsonl"

    @property
    def sessions(self) -> Path:
        """When the run was started and ended, where, and on what."""
        return self.folder / "sessions.jsonl"

    @property
    def unreadable(self) -> Path:
        """Where the images that could not be read are listed, with the reasons."""
        return self.folder / "unreadable.tsv"

    @property
    def offending(self) -> Path:
        """The batches at which the run was stopped because it had gone wrong."""
        return self.folder / "offending.safetensors"

    @property
    def model(self) -> Path:
        """The finished model folder."""
        return self.folder / "model"


def claim(run: Run, recipe: Recipe, resume: bool, processes: Processes) -> None:
    """Begin the run in its folder, or make sure that it can be gone on with.

    Raises:
        ConfigError: the folder has a run already, or one of another recipe.
    """
    if run.checkpoint.exists():
        if not resume:
            raise ConfigError(f"{run.folder} holds a run already; add --resume to go on with it, or choose another.")
        before = parse_recipe(read_recipe_of(run.checkpoint), what=str(run.checkpoint))
        # What is looked at may change from session to session.
        if replace(before, observe=recipe.observe) != recipe:
            changed = [k for k, v in recipe.to_dict().items() if before.to_dict()[k] != v and k != "observe"]
            raise ConfigError(f"{run.folder} was started with another recipe; {', '.join(changed)} differ.")
    processes.wait()  # for all to have looked before anything is written
    if processes.main:
        write_text(run.folder / "recipe.json", json.dumps(recipe.to_dict(), indent=2) + "\n")
