"""How fast the engine is, against the game played pass by pass: images a second, peak memory, predicted ratio.

Each case is measured in processes of its own: one in which both ways take turns, for the time, and one for each
way, for the memory.  What is timed is :meth:`adios_zoo.train.run.trainer.Trainer.step` on a fixed batch of views.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import AdiosError, ConfigError
from adios_zoo.features.torch_backend import choose_device
from adios_zoo.telling import tell

from ..data.batches import Batch
from ..data.plan import Plan
from ..game.game import Game
from ..game.plain import PlainGame
from ..processes import Processes
from ..recipe.recipe import parse_recipe
from ..recipe.settings import Recipe, Term
from .memory import bytes_now, peak_bytes
from .trainer import Trainer

_CLASSES = 200  # of the online probe
_MEMORY_STEPS = 2


@dataclass(frozen=True)
class Case:
    """What is trained; ``size`` in pixels, ``batch`` in images."""

    method: str = "simclr"
    slots: int = 4
    mask_use: str = "all"
    terms: tuple[Term, ...] = ()
    size: int = 96
    batch: int = 32
    encoder: str = "resnet18"
    masker_base: int = 32
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 0

    @property
    def label(self) -> str:
        """Short name for the table."""
        masks = f"N={self.slots}" + (", one" if self.mask_use == "one" else "")
        return " ".join([self.method, masks, *(["+".join(self.terms)] if self.terms else [])])


@dataclass(frozen=True)
class Figures:
    """What was measured of one case: seconds a step (medians), and bytes of memory at its peak, plain and engine.

    Memory counts from the moment before the first step: what Python, torch and the networks take is the same both ways.
    """

    case: Case
    plain_seconds: float
    engine_seconds: float
    plain_bytes: int
    engine_bytes: int

    @property
    def speedup(self) -> float:
        """Engine's images a second over the plain way's."""
        return self.plain_seconds / self.engine_seconds

    @property
    def memory(self) -> float:
        """Engine's peak over the plain way's."""
        return self.engine_bytes / self.plain_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON writes it."""
        return {
            **asdict(self),
            "speedup": self.speedup,
            "predicted": predicted(self.case),
            "memory": self.memory,
        }


def standard_cases(case: Case) -> list[Case]:
    """The cases that are measured when none is asked for, in size, encoder and so on like ``case``."""
    games: list[tuple[str, int, str, tuple[Term, ...]]] = [
        ("simclr", 4, "all", ()),
        ("simclr", 6, "all", ()),
        ("simsiam", 4, "all", ("no_mask", "both")),  # as the authors trained on ImageNet100-S
        ("byol", 6, "all", ()),
        ("simclr", 4, "one", ()),
    ]
    return [replace(case, method=m, slots=n, mask_use=use, terms=terms) for m, n, use, terms in games]


def predicted(case: Case) -> float:
    """The ratio that counting the encoder's passes gives.

    A forward pass costs 1, a backward pass to the weights 1, one to the inputs 1; heads, masker, losses and updates
    cost nothing.  With the probe, and with running statistics that count every pass of the authors.
    """
    n = case.slots if case.mask_use == "all" else 1
    simsiam = case.method == "simsiam"
    clean, masked = (2, 2 * n) if simsiam else (1, n)
    learning = clean if not simsiam or {"no_mask", "symmetry"} & set(case.terms) else 0
    # Encoder's turn, probe, masker's turn; SimSiam has encoded both of the probe's views.
    engine = (clean + masked) + 2 * (learning + masked) + (2 - clean) + (clean + masked) + masked
    plain = (clean * n + masked) + 2 * (learning * n + masked) + 2 + (clean * n + masked) + masked
    if case.method == "byol":
        # Momentum passes are forward only; masks drawn anew for the masker's turn need their targets anew.
        engine += (1 + masked) + 1 + (masked if case.mask_use == "one" else 0)
        plain += 2 * (n + masked) + 2
    return plain / engine


def measure(case: Case, *, rounds: int = 5) -> Figures:
    """Measure one case, in processes of its own.

    Args:
        case: what is trained.
        rounds: steps of each way that are timed.

    Raises:
        ConfigError: the case is not one that can be trained.
        AdiosError: a process failed, say for want of memory.
    """
    if rounds < 1 or case.threads < 0:
        raise ConfigError(f"rounds must be positive and threads not negative, not {rounds} and {case.threads}.")
    recipe_of(case)
    seconds = _in_process(case, "time", rounds)
    return Figures(
        case,
        statistics.median(seconds["plain"]),
        statistics.median(seconds["engine"]),
        _in_process(case, "plain", rounds)["bytes"],
        _in_process(case, "engine", rounds)["bytes"],
    )


def table(figures: Iterable[Figures]) -> str:
    """The figures, one case a line."""
    head = ("images/s plain", "engine", "ratio", "counted", "MiB plain", "engine", "ratio")
    rows: list[tuple[str, ...]] = [("", *head)]
    for f in figures:
        speeds = [f"{f.case.batch / seconds:.1f}" for seconds in (f.plain_seconds, f.engine_seconds)]
        peaks = [f"{peak / 2**20:.0f}" for peak in (f.plain_bytes, f.engine_bytes)]
        ratios = [f"{ratio:.2f}" for ratio in (f.speedup, predicted(f.case), f.memory)]
        rows.append((f.case.label, *speeds, ratios[0], ratios[1], *peaks, ratios[2]))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def recipe_of(case: Case) -> Recipe:
    """The recipe whose steps are measured.

    Raises:
        ConfigError: the case is not one that can be trained.
    """
    data = {
        "set": "bench",
        "batch_size": case.batch,
        "image_size": case.size,
        "precision": case.precision,
        "probe": True,
        "encoder": {"architecture": case.encoder},
        "masker": {"image_size": case.size, "slots": case.slots, "base_channels": case.masker_base},
        "game": {
            "method": case.method,
            "mask_use": case.mask_use,
            "terms": list(case.terms),
            "bn_statistics": "all",  # as the plain way has them
        },
    }
    return parse_recipe(data, what="The bench's recipe")


def _in_process(case: Case, what: str, rounds: int) -> dict[str, Any]:
    threads = case.threads or usable_cpus()
    command = [sys.executable, "-m", "adios_zoo.train.run.bench", json.dumps(asdict(case)), what, str(rounds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        error = ConfigError if done.returncode == ConfigError.exit_code else AdiosError
        raise error(f"{case.label} could not be measured: {reason}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _run(case: Case, what: str, rounds: int) -> dict[str, Any]:
    if what != "time":
        step = _WAYS[what](case)
        built = bytes_now(choose_device(case.device))
        for _ in range(_MEMORY_STEPS):
            step()
        return {"bytes": peak_bytes(choose_device(case.device)) - built}
    steps = {name: way(case) for name, way in _WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # buffers, velocities and kernels are chosen in the first
    for _ in range(rounds):
        for name, step in steps.items():
            _wait(case)
            started = time.perf_counter()
            step()
            _wait(case)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _engine(case: Case) -> Callable[[], object]:
    trainer, batch = _trainer(case), _batch(case, torch.channels_last)
    return lambda: trainer.step(0, _Same(batch))


def _plain(case: Case) -> Callable[[], object]:
    trainer, batch = _trainer(case), _batch(case, torch.contiguous_format)
    game: Game = trainer.game.to(memory_format=torch.contiguous_format)
    plain = PlainGame(game)
    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor | None:
        index = torch.randint(case.slots, (case.batch,), generator=generator) if case.mask_use == "one" else None
        return None if index is None else index.to(batch.labels.device)

    assert trainer.masker_optimiser is not None
    optimisers = (trainer.encoder_optimiser, trainer.masker_optimiser)
    return lambda: plain.step(batch.views, batch.labels, (draw(), draw()), optimisers, tau=0.99)


_WAYS: dict[str, Callable[[Case], Callable[[], object]]] = {"plain": _plain, "engine": _engine}


@dataclass
class _Same:
    """The same batch at every step."""

    batch: Batch

    def __post_init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def __call__(self, number: int, draws: object) -> Batch:
        return self.batch


def _trainer(case: Case) -> Trainer:
    plan = Plan(recipe_of(case), case.batch, Processes(choose_device(case.device)))
    return Trainer(plan, classes=_CLASSES)


def _batch(case: Case, memory_format: torch.memory_format) -> Batch:
    generator = torch.Generator().manual_seed(0)
    device = choose_device(case.device)
    shape = (case.batch, 3, case.size, case.size)
    views = {v: torch.randn(shape, generator=generator).to(device, memory_format=memory_format) for v in (1, 2)}
    labels = torch.randint(_CLASSES, (case.batch,), generator=generator).to(device)
    return Batch(views, labels, torch.arange(case.batch))


def _wait(case: Case) -> None:
    if choose_device(case.device).type == "cuda":
        torch.cuda.synchronize()


def main(arguments: list[str]) -> int:
    """Measure in this process; prints JSON.  :func:`measure` starts it."""
    data = json.loads(arguments[0])
    case = Case(**{**data, "terms": tuple(data["terms"])})
    try:
        print(json.dumps(_run(case, arguments[1], int(arguments[2]))))
    except AdiosError as error:
        tell(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
