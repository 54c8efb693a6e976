"""A whole run, from a recipe and a SOURCE to the model folder.  Its steps are taken in ``loop.py``."""

from __future__ import annotations

import os
from pathlib import Path

from adios_zoo.cores import usable_cpus
from adios_zoo.errors import DataError
from adios_zoo.models.card import Card
from adios_zoo.sources.open import open_stream

from ..data.feed import Feed, open_feed
from ..data.plan import Plan
from ..processes import start_processes
from ..recipe.settings import Recipe
from ..report.observe import Observer, choose_shown
from ..report.page import reported
from ..report.progress import Progress
from ..report.record import session
from .checkpoint import load_checkpoint
from .finish import card_of_run, code_version, write_model
from .folder import Run, claim
from .loop import Loop
from .trainer import Trainer


def pretrain(
    recipe: Recipe,
    source: str,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    held_out: str | None = None,
    show_progress: bool = True,
) -> Path:
    """Train an encoder and a masker, and write them as a model folder.

    Started by ``torchrun`` or ``accelerate launch`` in several processes, they share every batch; the folder and the
    images must be where all of them see them.

    Args:
        recipe: what to compute.
        source: the images, see :func:`adios_zoo.sources.open.open_source`.
        folder: of the run; made if absent.
        resume: go on from the folder's checkpoint, if it has one; on a CPU the end is bit-identical to that of
            a run that was never interrupted.
        device: ``cpu``, ``cuda``, ... or ``auto``.
        workers: processes that read and decode images which do not fit in memory; ``None`` is one a core.
        held_out: labelled images that are not trained on, for the k-NN accuracy between epochs.
        show_progress: draw a progress bar on stderr.

    Returns:
        The model folder, ``folder/model``.

    Raises:
        ConfigError: the folder has a run already, or one of another recipe.
        DataError: unreadable data, or other data than before.
        CollapseError: the run has gone wrong; the last good checkpoint and the offending batch are kept.
        KeyboardInterrupt: after SIGTERM or Ctrl-C, with a checkpoint saved, unless the state looks collapsed: then the
            one before stays.
    """
    run = Run(Path(folder))
    processes = start_processes(device)
    claim(run, recipe, resume, processes)
    data = open_feed(source, recipe)
    plan = Plan(recipe, data.count, processes)
    trainer = Trainer(plan, classes=data.classes)
    progress = Progress(data=data.fingerprint)
    if resume and run.checkpoint.exists():
        progress = load_checkpoint(run.checkpoint, trainer.game, trainer.optimisers)
        if progress.data != data.fingerprint:
            raise DataError(f"{source} holds other images than those that {run.folder} was trained on.")
    code = code_version()
    if code not in progress.code and progress.step < plan.steps:
        progress.code.append(code)
    # What is wrong with the card should not show only when hours have been spent.
    card = card_of_run(trainer, progress)
    workers = max(1, usable_cpus() - 1) if workers is None else workers
    batches = data.batches(plan, first=progress.step * recipe.accumulate, workers=workers)
    loop = Loop(run, plan, trainer, batches, progress)
    if not processes.main:
        loop.play(show_progress=False)
    else:
        loop.observer = _observer(plan, trainer, card, data, held_out)
        queries = loop.observer.shown.queries
        facts = {"source": source, "held_out": held_out, "classes": data.classes, "code": code}
        facts["queries"] = 0 if queries is None else len(queries)
        with reported(run.folder), session(run.sessions, progress, loop.facts() | facts):
            loop.play(show_progress)
            write_model(run.model, trainer.game, card_of_run(trainer, progress))
    processes.wait()
    return run.model


def _observer(plan: Plan, trainer: Trainer, card: Card, data: Feed, held_out: str | None) -> Observer:
    recipe = plan.recipe
    sizes = [recipe.size_in(max(epochs - 1, 0)) for epochs in range(recipe.epochs + 1)]
    shown = choose_shown(
        data.source if data.images is None else data.images,
        None if held_out is None else open_stream(held_out),
        recipe.observe,
        seed=recipe.seed,
        side=max(sizes),
    )
    return Observer(recipe.observe, shown, trainer.game.encoder, trainer.game.masker, card, sizes)
