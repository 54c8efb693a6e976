"""Commands that measure what an encoder's features are worth."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adios_zoo.commands.arguments import SOURCE, Commands, add_columns, add_json, add_model, add_quiet, write_json
from adios_zoo.errors import ConfigError

if TYPE_CHECKING:
    from adios_zoo.train.evaluate.protocol import Training
    from adios_zoo.train.evaluate.task import Task

_LABELLED = f"{SOURCE}; or a .parquet of `adios extract`"


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("evaluate knn", _knn, "weighted k-nearest-neighbour accuracy")
    add_task(sub)
    sub.add_argument("-k", type=int, nargs="+", help="neighbours; of several the best is reported")
    sub.add_argument("--temperature", type=float, nargs="+", help="of the cosine votes")
    sub.add_argument("--distance", nargs="+", choices=["cosine", "euclidean"], help="of the neighbours")

    sub = commands.add("evaluate linear", _linear, "accuracy of a linear classifier on the frozen features")
    add_task(sub)
    add_seeds(sub, "default: 0 1 2, with --augmented 0")
    sub.add_argument(
        "--augmented",
        action=argparse.BooleanOptionalAction,
        help="train it on augmented images, as the authors do, instead of on features that are computed once; "
        "default: only with --protocol paper",
    )
    sub.add_argument("--steps", type=int, help="of the fit to features; default: 1000")
    _add_training(sub)

    sub = commands.add("evaluate finetune", _finetune, "accuracy of the whole network after training it on labels")
    add_task(sub)
    add_seeds(sub, "default: 0")
    _add_training(sub)
    sub.add_argument(
        "--sizes", type=int, nargs="+", help="sides of the images in pixels, in equal parts of the epochs: 32 48 64"
    )
    sub.add_argument(
        "--frozen-statistics",
        action=argparse.BooleanOptionalAction,
        help="batch norms keep their running statistics, as in the authors' code; default: only with --protocol paper",
    )
    sub.add_argument("-o", "--output", type=Path, help="folder for the trained model; without it nothing is kept")

    sub = commands.add("evaluate cluster", _cluster, "agreement of k-means clusters with the classes")
    add_task(sub, train=False)
    add_seeds(sub, "default: 0 1 2")
    sub.add_argument("--clusters", type=int, help="default: as many as classes; with --protocol paper one fewer")
    sub.add_argument("--starts", type=int, default=10, help="of k-means in each run; default: 10")


def add_task(parser: argparse.ArgumentParser, *, train: bool = True, test: bool = True) -> None:
    """The model, the images, and what all evaluations share; :func:`task_of` reads it."""
    add_model(parser, more=" or timm:NAME")
    role = "to learn from" if train else "to evaluate too" if test else "to learn from; default: original/train"
    parser.add_argument(
        "--train", required=train, default="", metavar="SOURCE", help=f"labelled images {role}: {_LABELLED}"
    )
    if test:
        parser.add_argument("--test", required=True, metavar="SOURCE", help="labelled images that are judged, likewise")
    add_columns(parser, "train", *(["test"] if test else []))
    parser.add_argument("--train-images", type=int, metavar="N", help="only the first so many of them")
    parser.add_argument("--random", action="store_true", help="the model at random initialisation, for comparison")
    add_protocol(parser)


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """The protocol, and the images, seed, device and output that all evaluations share."""
    parser.add_argument("--test-images", type=int, metavar="N", help="only the first so many of them")
    parser.add_argument(
        "--protocol",
        choices=["standard", "paper"],
        default="standard",
        help="standard (default), or paper: as the authors evaluate; docs/evaluation.md has both",
    )
    parser.add_argument("--crop-pct", type=float, help="input size over resized size, in place of the protocol's")
    parser.add_argument("--seed", type=int, default=0, help="of a random initialisation and of altered images")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    add_json(parser, "the figures and all settings")
    add_quiet(parser)


def add_seeds(parser: argparse.ArgumentParser, default: str) -> None:
    """Seeds of runs whose mean and deviation are reported."""
    parser.add_argument("--seeds", type=int, nargs="+", help=f"of the runs, one for each; {default}")


def task_of(options: argparse.Namespace) -> Task:
    """The task that the options of :func:`add_task` describe."""
    from adios_zoo.train.evaluate.protocol import protocol
    from adios_zoo.train.evaluate.task import Task

    return Task(
        test=getattr(options, "test", ""),
        train=options.train,
        model=options.model,
        protocol=protocol(options.protocol, crop_pct=options.crop_pct),
        train_images=options.train_images,
        test_images=options.test_images,
        random_seed=options.seed if options.random else None,
        device=options.device,
        progress=not options.quiet,
    )


def show(
    options: argparse.Namespace, result: dict[str, Any], as_text: Callable[[dict[str, Any]], str] | None = None
) -> int:
    """Print the table of a result, and write its record if ``--json`` asks for it."""
    from adios_zoo.train.evaluate.table import table

    print((as_text or table)(result))
    write_json(options.json, result)
    return 0


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, help="passes over augmented images; warm-up and steps keep their share")
    parser.add_argument("--lr", type=float, help="highest learning rate")
    parser.add_argument("--weight-decay", type=float, help="of the weights")
    parser.add_argument("--batch-size", type=int, help="images a step")
    parser.add_argument("--optimiser", choices=["sgd", "lars"], help="sgd with momentum (default), or LARS around it")
    parser.add_argument("--workers", type=int, help="processes that read images which do not fit in memory; one a core")


def _training(options: argparse.Namespace, training: Training) -> Training:
    """The protocol's training with what the options change."""
    names = ("epochs", "lr", "weight_decay", "batch_size", "optimiser", "frozen_statistics")
    changes = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    return dataclasses.replace(training, **changes, sizes=tuple(getattr(options, "sizes", None) or ()))


def _knn(options: argparse.Namespace) -> int:
    from adios_zoo.train.evaluate.accuracy.knn import evaluate_knn, grid

    task = task_of(options)
    cells = grid(task.protocol.cells, k=options.k, distances=options.distance, temperatures=options.temperature)
    return show(options, evaluate_knn(task, cells))


def _linear(options: argparse.Namespace) -> int:
    from adios_zoo.train.evaluate.accuracy.linear import evaluate_linear, evaluate_linear_augmented

    task = task_of(options)
    augmented = task.protocol.augmented if options.augmented is None else options.augmented
    seeds = {"seeds": options.seeds} if options.seeds else {}
    useless = ("steps",) if augmented else ("epochs", "lr", "batch_size", "optimiser", "workers")
    for name in useless:
        if getattr(options, name) is not None:
            way = "only without" if augmented else "for"
            raise ConfigError(f"--{name.replace('_', '-')} is {way} --augmented.")
    if augmented:
        training = _training(options, task.protocol.linear)
        return show(options, evaluate_linear_augmented(task, training, workers=options.workers, **seeds))
    steps = {} if options.steps is None else {"steps": options.steps}
    return show(options, evaluate_linear(task, weight_decay=options.weight_decay, **steps, **seeds))


def _finetune(options: argparse.Namespace) -> int:
    from adios_zoo.train.evaluate.accuracy.finetune import evaluate_finetune

    task = task_of(options)
    seeds = {"seeds": options.seeds} if options.seeds else {}
    training = _training(options, task.protocol.finetune)
    return show(options, evaluate_finetune(task, training, workers=options.workers, output=options.output, **seeds))


def _cluster(options: argparse.Namespace) -> int:
    from adios_zoo.train.evaluate.accuracy.cluster import evaluate_cluster

    seeds = {"seeds": options.seeds} if options.seeds else {}
    found = evaluate_cluster(task_of(options), clusters=options.clusters, starts=options.starts, **seeds)
    return show(options, found)
