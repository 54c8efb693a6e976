"""The training loop: epochs of batches, each an encoder turn and a masker turn; a log, checkpoints, resume."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from adios_zoo.encoder import create_encoder, feature_width
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.files import write_text
from adios_zoo.masker import Masker
from adios_zoo.torch_backend import choose_device

from .checkpoint import Progress, load_checkpoint, read_recipe_of, save_checkpoint
from .data import ImageSet, epoch_order, generator_for, load_images
from .finish import card_of_run, code_version, write_model
from .game import Batch, Game
from .optim import LARS
from .recipe import Recipe, parse_recipe
from .schedules import byol_tau, warmup_cosine
from .views import draw_views

LOG_EVERY = 20  # steps


@dataclass
class Run:
    """A run in its folder: ``recipe.json``, ``log.jsonl``, ``checkpoint.safetensors``, at the end ``model/``."""

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
    def model(self) -> Path:
        """The finished model folder."""
        return self.folder / "model"


def pretrain(
    recipe: Recipe,
    source: str,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "auto",
    show_progress: bool = True,
) -> Path:
    """Train an encoder and a masker, and write them as a model folder.

    Args:
        recipe: what to compute.
        source: the images, see :func:`adios_zoo.train.data.load_images`.
        folder: of the run; made if absent.
        resume: go on from the folder's checkpoint, if it has one; on a CPU the end is bit-identical to that of
            a run that was never interrupted.
        device: ``cpu``, ``cuda``, ... or ``auto``.
        show_progress: draw a progress bar on stderr.

    Returns:
        The model folder, ``folder/model``.

    Raises:
        ConfigError: the folder has a run already, or one of another recipe.
        DataError: unreadable data, other data than before, or a loss that is not finite.
        KeyboardInterrupt: after SIGTERM or Ctrl-C, with a checkpoint saved.
    """
    run = Run(Path(folder))
    _claim(run, recipe, resume)
    torch.manual_seed(recipe.seed)
    where = choose_device(device)
    data = load_images(source, limit=recipe.images)
    _report_failures(run, data)
    trainer = _Trainer(recipe, data, where)
    progress = Progress(data=data.fingerprint)
    if resume and run.checkpoint.exists():
        progress = load_checkpoint(run.checkpoint, trainer.game, trainer.optimisers)
        if progress.data != data.fingerprint:
            raise DataError(f"{source} holds other images than those that {run.folder} was trained on.")
    code = code_version()
    if code not in progress.code and progress.step < trainer.total_steps:
        progress.code.append(code)
    # What is wrong with the card should not show only when hours have been spent.
    card_of_run(recipe, images=len(data), progress=progress, width=feature_width(trainer.game.encoder))
    trainer.play(run, progress, show_progress)
    write_model(run.model, trainer.game, recipe, images=len(data), progress=progress)
    return run.model


class _Trainer:
    """Networks, optimisers and data of one run."""

    def __init__(self, recipe: Recipe, data: ImageSet, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.steps_per_epoch = len(data) // recipe.batch_size
        if not self.steps_per_epoch:
            raise ConfigError(f"A batch of {recipe.batch_size} is larger than the data: {len(data)} images.")
        self.total_steps = self.steps_per_epoch * recipe.epochs
        encoder = create_encoder(recipe.encoder.architecture, **recipe.encoder.model_args)
        m = recipe.masker
        masker = Masker(m.image_size, m.slots, m.base_channels, m.norm, m.blocks)
        classes = int(data.labels.max()) + 1 if recipe.probe else 0
        game = Game(encoder, masker, recipe.game, features=feature_width(encoder), classes=classes)
        # Channels-last convolutions are faster on CPUs and on GPUs with tensor cores.
        self.game = game.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        rates = dict.fromkeys(("encoder", "projector", "predictor"), recipe.optimiser.lr)
        self.encoder_optimiser = self._optimiser(rates | {"classifier": recipe.optimiser.probe_lr})
        self.masker_optimiser = self._optimiser({"masker": recipe.optimiser.masker_lr})
        self.optimisers: dict[str, Optimizer] = {
            "encoder_optimiser": self.encoder_optimiser,
            "masker_optimiser": self.masker_optimiser,
        }

    def play(self, run: Run, progress: Progress, show_progress: bool) -> None:
        """Take the steps that are left."""
        saved = time.monotonic()
        with (
            _Log(run.log, progress.log_bytes) as log,
            _leave_on_signals() as asked_to_leave,
            tqdm(
                total=self.total_steps,
                initial=progress.step,
                unit="batch",
                disable=not show_progress,
                dynamic_ncols=True,
            ) as bar,
        ):
            while progress.step < self.total_steps:
                started = time.monotonic()
                record = self.step(progress.step)
                last = progress.step % self.steps_per_epoch == self.steps_per_epoch - 1
                due = time.monotonic() - saved > 60 * self.recipe.checkpoint_minutes
                save = last or due or bool(asked_to_leave)
                if progress.step % LOG_EVERY == 0 or save:  # never save a state that has gone wrong
                    _check_finite(record, progress.step)
                if progress.step % LOG_EVERY == 0 or last:
                    bar.set_postfix_str(self._log(log, progress, record))
                progress.step += 1
                progress.seconds += time.monotonic() - started
                bar.update()
                if save:
                    progress.log_bytes = log.flush()
                    save_checkpoint(run.checkpoint, self.game, self.optimisers, progress, self.recipe.to_dict())
                    saved = time.monotonic()
                if asked_to_leave and progress.step < self.total_steps:
                    raise KeyboardInterrupt

    def step(self, step: int) -> dict[str, Tensor | float]:
        """One batch: both turns and both updates.  All that is random in it depends on seed and step alone."""
        recipe = self.recipe
        epoch, place = divmod(step, self.steps_per_epoch)
        torch.manual_seed(recipe.seed + step)  # for encoders with dropout or stochastic depth
        generator = generator_for(recipe.seed, "step", step)
        order = epoch_order(len(self.images), seed=recipe.seed, epoch=epoch)
        chosen = order[place * recipe.batch_size : (place + 1) * recipe.batch_size].to(self.device)
        self._set_rates(step)
        batch = self._views(self.images[chosen], recipe.size_in(epoch), generator)
        masker_plays = step % recipe.masker.every == 0
        with torch.set_grad_enabled(masker_plays):
            masks = self.game.masks(batch)
        slots = recipe.masker.slots
        self.encoder_optimiser.zero_grad()
        index = self._draw(len(chosen), slots, generator)
        turn = self.game.encoder_turn(batch, masks, index, self.labels[chosen] if recipe.probe else None)
        self.encoder_optimiser.step()
        record: dict[str, Tensor | float] = {"loss": turn.loss}
        if turn.probe is not None:
            record["probe_loss"] = turn.probe
        if masker_plays:
            self.masker_optimiser.zero_grad()
            index = self._draw(len(chosen), slots, generator)
            answer = self.game.masker_turn(batch, masks, index, turn.targets)
            self.masker_optimiser.step()
            record["objective"] = answer.objective
        area = torch.cat([m.detach().mean(dim=(2, 3)) for m in masks.values()])
        record |= {f"area_{k}": a for k, a in enumerate(area.mean(0))}
        # 0 where each pixel belongs to one slot, 1 where all slots share it evenly.
        record["mask_entropy"] = torch.stack([_mask_entropy(m.detach()) for m in masks.values()]).mean()
        if recipe.game.method == "byol":
            base, final = recipe.optimiser.byol_tau
            self.game.move_momentum(byol_tau(step, self.total_steps, base=base, final=final))
        return record

    def _views(self, images: Tensor, size: int, generator: torch.Generator) -> Batch:
        r = self.recipe
        return {
            v: draw_views(images, size, settings, generator, mean=r.mean, std=r.std).contiguous(
                memory_format=torch.channels_last
            )
            for v, settings in ((1, r.view1), (2, r.view2))
        }

    def _draw(self, images: int, slots: int, generator: torch.Generator) -> Tensor | None:
        index = self.game.draw(images, slots, generator)
        return None if index is None else index.to(self.device)

    def _optimiser(self, rates: dict[str, float]) -> LARS:
        o = self.recipe.optimiser
        networks: dict[str, nn.Module | None] = {name: getattr(self.game, name) for name in rates}
        groups = [
            {
                "name": name,
                "params": [p for p in network.parameters() if p.requires_grad],
                "base_lr": rates[name],
                "weight_decay": 0.0 if name == "classifier" else o.weight_decay,
            }
            for name, network in networks.items()
            if network is not None
        ]
        return LARS(groups, lr=o.lr, momentum=o.momentum, eta=o.eta, clip=o.clip, exclude_1d=o.exclude_1d)

    def _set_rates(self, step: int) -> None:
        o, r = self.recipe.optimiser, self.recipe
        epoch: float = step // self.steps_per_epoch if o.schedule_by == "epoch" else step / self.steps_per_epoch
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                if r.game.method == "simsiam" and group["name"] == "predictor" and epoch >= 1:
                    group["lr"] = group["base_lr"]  # SimSiam's predictor keeps its rate
                    continue
                group["lr"] = warmup_cosine(
                    epoch,
                    group["base_lr"],
                    warmup_epochs=o.warmup_epochs,
                    max_epochs=r.epochs,
                    start=o.warmup_start_lr,
                    minimum=o.min_lr,
                )

    def _log(self, log: _Log, progress: Progress, record: dict[str, Tensor | float]) -> str:
        values = {name: float(value) for name, value in record.items()}
        rates = {f"lr_{g['name']}": g["lr"] for o in self.optimisers.values() for g in o.param_groups}
        log.write(
            {"step": progress.step, "epoch": progress.step // self.steps_per_epoch, **values, **rates}
            | {"seconds": round(progress.seconds, 1)}
        )
        return " ".join(f"{k} {v:.3f}" for k, v in values.items() if not k.startswith("area"))


def _check_finite(record: dict[str, Tensor | float], step: int) -> None:
    bad = [name for name, value in record.items() if not math.isfinite(value)]
    if bad:
        raise DataError(
            f"{bad[0]} is not finite at step {step}; the last good state is in the checkpoint. "
            "Start anew with a lower optimiser.lr or optimiser.masker_lr."
        )


class _Log:
    """JSON lines; what a killed run wrote after its checkpoint is cut off when it resumes."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self.file = path.open("ab")
        self.file.truncate(keep_bytes)
        self.file.seek(0, os.SEEK_END)

    def write(self, record: dict[str, Any]) -> None:
        self.file.write((json.dumps(record) + "\n").encode())
        self.file.flush()

    def flush(self) -> int:
        """Bring the log to the disk; its length in bytes."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@contextmanager
def _leave_on_signals() -> Iterator[list[int]]:
    """Within, SIGTERM and Ctrl-C only fill the list, so that the step at hand can end and be saved."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are another's business
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mask_entropy(masks: Tensor) -> Tensor:
    return -(masks * masks.clamp(min=1e-8).log()).sum(1).mean() / math.log(max(masks.shape[1], 2))


def _claim(run: Run, recipe: Recipe, resume: bool) -> None:
    if run.checkpoint.exists():
        if not resume:
            raise ConfigError(f"{run.folder} holds a run already; add --resume to go on with it, or choose another.")
        before = parse_recipe(read_recipe_of(run.checkpoint), what=str(run.checkpoint))
        if before != recipe:
            changed = [k for k, v in recipe.to_dict().items() if before.to_dict()[k] != v]
            raise ConfigError(f"{run.folder} was started with another recipe; {', '.join(changed)} differ.")
    write_text(run.folder / "recipe.json", json.dumps(recipe.to_dict(), indent=2) + "\n")


def _report_failures(run: Run, data: ImageSet) -> None:
    if data.failures:
        lines = [f"{where}\t{reason}" for where, reason in data.failures]
        write_text(run.folder / "unreadable.tsv", "\n".join(lines) + "\n")
        print(f"{len(lines)} images could not be read; see {run.folder / 'unreadable.tsv'}", file=sys.stderr)
