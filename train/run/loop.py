"""The training loop: steps, their log, and checkpoints.  A run from beginning to end is in ``pretraining.py``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from adios_zoo.errors import DataError
from adios_zoo.files import explained, write_tensors
from adios_zoo.telling import progress_bar, tell

from ..data.batches import Batches, Incoming
from ..data.plan import Plan
from ..report.observe import Observer
from ..report.progress import Progress
from ..report.record import Record, RunLog, open_trackers
from .checkpoint import save_checkpoint
from .finish import machine
from .folder import Run
from .trainer import Trainer
from .watch import CollapseError, Watch, check_finite

LOG_EVERY = 20  # steps
_ON_THE_BAR = ("loss", "objective", "deviation", "mask_entropy", "probe_accuracy")


@dataclass
class Loop:
    """Takes the steps that are left; the main process writes what is to be kept."""

    run: Run
    plan: Plan
    trainer: Trainer
    batches: Batches
    progress: Progress
    observer: Observer | None = None
    told: int = 0  # of the images that could not be read
    recorded: tuple[int, float] | None = None  # steps and seconds at the latest record

    @property
    def images_per_step(self) -> int:
        """Over all processes."""
        return self.plan.recipe.batch_size * self.plan.recipe.accumulate

    def facts(self) -> dict[str, Any]:
        """What a session's record says of the plan and of the machine."""
        processes = self.plan.processes
        return {
            "images": self.plan.count,
            "fingerprint": self.progress.data,
            "steps": self.plan.steps,
            "steps_per_epoch": self.plan.steps_per_epoch,
            "images_per_step": self.images_per_step,
            "machine": machine(processes.device),
            "processes": processes.count,
            "torch": torch.__version__,
        }

    def play(self, show_progress: bool) -> None:
        """Take them."""
        recipe, progress, processes = self.plan.recipe, self.progress, self.plan.processes
        watch = Watch(recipe.watch)
        saved = time.monotonic()
        with (
            self._log() as log,
            _leave_on_signals() as signals,
            progress_bar(
                total=self.plan.steps * self.images_per_step,
                initial=progress.step * self.images_per_step,
                unit="img",
                unit_scale=True,
                show=show_progress,
                dynamic_ncols=True,
            ) as bar,
        ):
            while progress.step < self.plan.steps:
                # After the checkpoint, so that leaving need not wait for it: a resumed run looks first.
                if progress.step % self.plan.steps_per_epoch == 0:
                    self._look(log)
                started, step = time.monotonic(), progress.step
                record = self.trainer.step(step, self.batches)
                last = step % self.plan.steps_per_epoch == self.plan.steps_per_epoch - 1
                regular = step % LOG_EVERY == 0 or last
                due = last or time.monotonic() - saved > 60 * recipe.checkpoint_minutes
                # Several processes agree at the records, where they meet anyway.
                leave = processes.any(bool(signals)) if regular or processes.count == 1 else False
                with self._kept_if_bad(step):
                    if regular:
                        values = self._means(record)
                        check_finite(values, step)
                        log.write(self._line(step, values))
                        bar.set_postfix_str(" ".join(f"{k} {values[k]:.3g}" for k in _ON_THE_BAR if k in values))
                        if step >= recipe.optimiser.warmup_epochs * self.plan.steps_per_epoch:
                            watch.see(values, step)
                        self._tell()
                    elif due or leave or processes.on_cpu:
                        check_finite({name: float(value) for name, value in record.items()}, step)
                progress.step += 1
                progress.seconds += time.monotonic() - started
                bar.update(self.images_per_step)
                if (due or leave) and not watch.worried:
                    self._save(log)
                    saved = time.monotonic()
                if leave and progress.step < self.plan.steps:
                    raise KeyboardInterrupt
            self._look(log)

    def _line(self, step: int, values: Record) -> Record:
        when = {"step": step, "epoch": step // self.plan.steps_per_epoch}
        before, seconds = self.recorded, self.progress.seconds
        self.recorded = (step, seconds)
        speed = {}
        if before is not None and seconds > before[1]:
            images = (step - before[0]) * self.images_per_step
            speed = {"images_per_second": round(images / (seconds - before[1]), 1)}
        return {**when, **values, **self.trainer.rates(), **speed, "seconds": round(seconds, 1)}

    def _log(self) -> RunLog:
        if not self.plan.processes.main:
            return RunLog(Path(os.devnull))
        recipe, step = self.plan.recipe, self.progress.step
        trackers = open_trackers(recipe.observe.trackers, self.run.folder, step=step, config=recipe.to_dict())
        return RunLog(self.run.log, self.progress.log_bytes, trackers)

    def _look(self, log: RunLog) -> None:
        if self.observer is not None:
            step = self.progress.step
            self.observer.look(self.run.folder, log, epoch=step // self.plan.steps_per_epoch, step=step)

    @contextmanager
    def _kept_if_bad(self, step: int) -> Iterator[None]:
        """Within, a run that has gone wrong leaves the batch at which that was seen."""
        try:
            yield
        except CollapseError as error:
            rank = self.plan.processes.rank
            offending = self.run.offending.with_stem(f"offending-{rank}") if rank else self.run.offending
            write_tensors(offending, self.trainer.latest_tensors(), {"step": str(step)})
            raise CollapseError(
                f"{error} The last good state is in {self.run.checkpoint}, the batch in {offending}; "
                "start anew with a lower optimiser.lr or optimiser.masker_lr, or other penalties."
            ) from error

    def _means(self, record: Mapping[str, Tensor]) -> dict[str, float]:
        """The record's numbers, averaged over the processes."""
        processes = self.plan.processes
        values = processes.sum(torch.stack([v.float() for v in record.values()])) / processes.count
        return dict(zip(record, values.tolist(), strict=True))

    def _tell(self) -> None:
        """List the images that could not be read since the last time."""
        found = self.plan.processes.collected(self.batches.failures[self.told :])
        self.told = len(self.batches.failures)
        if not found:
            return
        path = self.run.unreadable
        lines = dict.fromkeys(f"{where}\t{reason}" for where, reason in found)
        with explained(path):
            listed = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            known = set(listed)
            new = [line for line in lines if line not in known]
            self.plan.processes.wait()  # for all to have read it
            if new and self.plan.processes.main:
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in new)
                tell(f"{len(new)} images could not be read; see {path}")
        limit = self.plan.recipe.max_bad_share
        # Of images in memory the share was judged when they were loaded, and the bad ones are not counted any more.
        if isinstance(self.batches, Incoming) and len(listed) + len(new) > limit * self.plan.count:
            raise DataError(
                f"{len(listed) + len(new)} of {self.plan.count} images could not be read so far, more than "
                f"max_bad_share={limit:g} allows; they are listed in {path}."
            )

    def _save(self, log: RunLog) -> None:
        if self.plan.processes.main:
            self.progress.log_bytes = log.flush()
            save_checkpoint(
                self.run.checkpoint,
                self.trainer.game,
                self.trainer.optimisers,
                self.progress,
                self.plan.recipe.to_dict(),
            )


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
