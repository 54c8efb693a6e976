"""The comparison: does adversarial masking help, against no masks and random ones, at equal cost?

One small recipe is trained with every way of masking, for the same number of images and for the same time, and each
encoder is judged alike.  ``study.json`` has what is known; what it has is not done again.
"""

from __future__ import annotations

import json
import shlex
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from adios_zoo.errors import ConfigError
from adios_zoo.features.torch_backend import choose_device
from adios_zoo.files import write_text
from adios_zoo.models.card import card_of_folder

from ..data.batches import InMemory
from ..data.in_memory import load_images
from ..data.plan import Plan
from ..processes import Processes
from ..recipe.recipe import parse_recipe, read_recipe
from ..recipe.settings import Recipe
from ..run.folder import Run
from ..run.pretraining import pretrain
from ..run.trainer import Trainer
from .figures import Judges

Budget = Literal["images", "time"]
BUDGETS: tuple[Budget, ...] = ("images", "time")
RECORD = "study.json"
RANDOM = "random"

ARMS: dict[str, tuple[str, ...]] = {
    "none": ("masker.kind=none",),
    "patches": ("masker.kind=patches",),
    "blocks": ("masker.kind=blocks",),
    "adios-one": ("game.mask_use=one",),
    "adios-all": ("game.mask_use=all",),
}
"""Ways of masking, as settings on top of the recipe; the first is what the others' cost is measured by."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "adios-one-mean": (*ARMS["adios-one"], "game.fill=mean"),
    "adios-one-high-pass": (*ARMS["adios-one"], "game.fill=high_pass"),
    "adios-one-half-clean": (*ARMS["adios-one"], "game.clean_share=0.5"),
    "adios-one-late": (*ARMS["adios-one"], "masker.loss_factor={0: 0, 2: 1}"),
    "adios-one-sparser": (*ARMS["adios-one"], "game.alpha_sparsity=0.25"),
}
"""What the literature on masking suggests, each a change of ``adios-one``."""

_ROUNDS = 3  # of the measurement of costs; a round has as many steps as the masker takes for a turn


@dataclass(frozen=True)
class Row:
    """One run of the comparison.

    Attributes:
        budget: what it has as much of as the others, ``images`` seen or ``time``.
        method: the loss.
        arm: of ``ARMS`` or ``VARIANTS``.
        seed: of the run.
        epochs: that the budget gives it.
    """

    budget: Budget
    method: str
    arm: str
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.method}-{self.arm}-{self.epochs}-epochs-{self.seed}"

    def settings(self) -> list[str]:
        """On top of the recipe."""
        return [
            f"game.method={self.method}",
            *{**ARMS, **VARIANTS}[self.arm],
            f"seed={self.seed}",
            f"epochs={self.epochs}",
        ]


def rows(
    recipe: Recipe,
    costs: dict[str, dict[str, float]],
    *,
    budgets: Sequence[Budget],
    methods: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
) -> Iterator[Row]:
    """The runs, seed by seed, so that a comparison that is cut short is whole for some seeds."""
    for seed in seeds:
        for method in methods:
            for budget in budgets:
                for arm in arms:
                    cost = 1.0 if budget == "images" else costs[method][arm] / costs[method]["none"]
                    yield Row(budget, method, arm, seed, max(1, round(recipe.epochs / cost)))


@dataclass(frozen=True)
class Study:
    """A comparison in its folder: ``study.json``, and a folder for each run. One process at a time works on it.

    Attributes:
        folder: of the comparison.
        recipe: name or file of the recipe that all runs share.
        judges: what the encoders are judged by; their training images are also what the runs are trained on.
    """

    folder: Path
    recipe: str
    judges: Judges

    def run(
        self,
        *,
        budgets: Sequence[Budget] = BUDGETS,
        methods: Sequence[str] = ("simclr",),
        arms: Sequence[str] = tuple(ARMS),
        seeds: Sequence[int] = (0,),
        show_progress: bool = True,
    ) -> dict[str, Any]:
        """Train and judge what is not done yet; a run that was interrupted goes on.

        Returns:
            What ``study.json`` holds: the ``recipe``, the ``data`` that judge, by role, ``costs`` in seconds an image
            (of the processor's time on a CPU), and of ``runs`` a record each, by name.

        Raises:
            ConfigError: unknown arms, budgets or methods, a recipe that trains on images kept for choices, or a folder
                with runs of another recipe or on other images.
            DataError: see :meth:`~adios_zoo.train.study.figures.Judges.data`.
            AdiosError: as :func:`adios_zoo.train.run.pretraining.pretrain`.
        """
        _check(budgets, arms)
        recipe = read_recipe(self.recipe)
        if recipe.images is None or recipe.images > self.judges.train_images:
            raise ConfigError(
                f"The recipe's images is {recipe.images}; variants are chosen by training images after the first "
                f"{self.judges.train_images}, which no run may see: set it to {self.judges.train_images} or fewer."
            )
        study = self._read(recipe)
        self._measure(study["costs"], methods, arms)
        self._write(study)
        for row in rows(recipe, study["costs"], budgets=budgets, methods=methods, arms=arms, seeds=seeds):
            for name, facts in ((row.name, self._trained), (f"{RANDOM}-{row.seed}", self._random)):
                if name not in {run["name"] for run in study["runs"]}:
                    study["runs"].append({"name": name} | facts(row, show_progress))
                    self._write(study)
        return self._stored()

    def _read(self, recipe: Recipe) -> dict[str, Any]:
        """What is known of a comparison with this recipe and these judges."""
        path, data = self.folder / RECORD, self.judges.data()
        if not path.exists():
            return {"recipe": recipe.to_dict(), "data": data, "costs": {}, "runs": []}
        study = self._stored()
        if parse_recipe(study["recipe"], what=f"The recipe in {path}") != recipe:
            raise ConfigError(f"{path} compares runs of another recipe than {self.recipe}; choose another folder.")
        for role, record in data.items():
            if {**study["data"][role], "source": record["source"]} != record:  # the same images may lie elsewhere
                raise ConfigError(
                    f"{path} compares runs on other images than {record['source']} ({role}); choose another folder."
                )
        return study

    def _stored(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads((self.folder / RECORD).read_text(encoding="utf-8")))

    def _write(self, study: dict[str, Any]) -> None:
        study["runs"].sort(key=lambda run: run["name"])
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / RECORD, json.dumps(study, indent=1) + "\n")

    def _measure(self, costs: dict[str, dict[str, float]], methods: Sequence[str], arms: Sequence[str]) -> None:
        """Add the costs that are missing; those that are there stay, so that the runs stay the same."""
        missing = [m for m in methods if not {"none", *arms} <= costs.get(m, {}).keys()]
        if missing:
            device = choose_device(self.judges.device)
            found = measure_costs(self.recipe, self.judges.train, methods=missing, arms=arms, device=device)
            for method, seconds in found.items():
                # Only what was measured together can be compared: new arms are put beside the old ``none``.
                old = costs.get(method, {})
                scale = old.get("none", seconds["none"]) / seconds["none"]
                costs[method] = {arm: scale * value for arm, value in seconds.items()} | old

    def _trained(self, row: Row, show_progress: bool) -> dict[str, Any]:
        folder, settings = self.folder / row.name, row.settings()
        model = Run(folder).model
        if not model.exists():
            pretrain(
                read_recipe(self.recipe, settings),
                self.judges.train,
                folder,
                resume=True,
                device=self.judges.device,
                show_progress=show_progress,
            )
        training = card_of_folder(model).training
        command = ["adios", "pretrain", self.recipe, *settings, "--data", self.judges.train, "-o", row.name]
        return {
            "method": row.method,
            "arm": row.arm,
            "seed": row.seed,
            "epochs": row.epochs,
            "images_seen": row.epochs * training["images"],
            "command": shlex.join(command),
            "training": training,
            "figures": self.judges.figures(str(model), seed=row.seed),
        }

    def _random(self, row: Row, _: bool) -> dict[str, Any]:
        """The same encoder at random initialisation."""
        return {
            "method": "",
            "arm": RANDOM,
            "seed": row.seed,
            "epochs": 0,
            "images_seen": 0,
            "figures": self.judges.figures(str(Run(self.folder / row.name).model), seed=row.seed, random=True),
        }


def _check(budgets: Sequence[str], arms: Sequence[str]) -> None:
    for given, known, what in ((budgets, BUDGETS, "budget"), (arms, (*ARMS, *VARIANTS), "arm")):
        for name in given:
            if name not in known:
                raise ConfigError(f"There is no {what} {name!r}; use some of {', '.join(known)}.")


def measure_costs(
    recipe: str, data: str, *, methods: Sequence[str], arms: Sequence[str], device: torch.device
) -> dict[str, dict[str, float]]:
    """Seconds that an image takes in training, by method and arm: medians of steps taken in turns.

    On a CPU they are the processor's, not the clock's, so that other programs on the machine favour no arm.
    """
    epochs = read_recipe(recipe).epochs
    found: dict[str, dict[str, float]] = {}
    for method in methods:
        names = list(dict.fromkeys(["none", *arms]))
        seconds: dict[str, list[float]] = {arm: [] for arm in names}
        recipes = {arm: read_recipe(recipe, Row("images", method, arm, 0, epochs).settings()) for arm in names}
        first = next(iter(recipes.values()))
        images = load_images(data, limit=first.batch_size * first.masker.every * (_ROUNDS + 1))
        plans = {arm: Plan(r, len(images), Processes(device)) for arm, r in recipes.items()}
        trainers = {arm: Trainer(plan, classes=0) for arm, plan in plans.items()}
        batches = {arm: InMemory(images, plan) for arm, plan in plans.items()}
        for round_ in range(_ROUNDS + 1):
            for arm in names:
                every = recipes[arm].masker.every
                started = _seconds(device)
                for step in range(round_ * every, (round_ + 1) * every):
                    trainers[arm].step(step, batches[arm])
                if round_:  # the first warms up
                    seconds[arm].append((_seconds(device) - started) / every / first.batch_size)
        found[method] = {arm: statistics.median(values) for arm, values in seconds.items()}
    return found


def _seconds(device: torch.device) -> float:
    """The time so far, when the device has done what it was given."""
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
