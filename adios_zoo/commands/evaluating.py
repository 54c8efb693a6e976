"""Commands that measure what an encoder is worth."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adios_zoo.commands.arguments import SOURCE, Commands, add_json, add_model, add_quiet, write_json
from adios_zoo.errors import ConfigError

if TYPE_CHECKING:
    from adios_zoo.train.probe.protocol import Training
    from adios_zoo.train.probe.task import Task

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

    sub = commands.add("evaluate segment", _segment, "masks against label maps or boxes, beside baselines")
    add_model(sub)
    sub.add_argument("--test", required=True, metavar="SOURCE", help=f"images: {SOURCE}")
    sub.add_argument("--masks", type=Path, metavar="FOLDER", help="label maps: PNG files under the images' names")
    sub.add_argument("--boxes", type=Path, metavar="FILE", help="boxes: JSON in the form of COCO's annotations")
    sub.add_argument(
        "--void", type=_void, default="auto", help="label that is not judged: a number, none or auto (default): 255"
    )
    sub.add_argument("--predicted", type=Path, metavar="FOLDER", help="judge NAME.npy, (N, H, W), instead of a model")
    sub.add_argument("--grid", type=int, metavar="N", help="cells of the baseline; default: as many as slots")
    _add_protocol(sub)

    _add_robust(commands)

    sub = commands.add("evaluate study", _study, "train with every way of masking at equal cost, and compare")
    sub.add_argument("--recipe", default="study_cifar10", help="what all runs share; default: study_cifar10")
    sub.add_argument(
        "--train", required=True, metavar="SOURCE", help=f"labelled images to train on and to fit: {SOURCE}"
    )
    sub.add_argument("--test", required=True, metavar="SOURCE", help="labelled images that are judged")
    sub.add_argument("--transfer-train", required=True, metavar="SOURCE", help="labelled images of another set, to fit")
    sub.add_argument("--transfer-test", required=True, metavar="SOURCE", help="those of it that are judged")
    sub.add_argument("-o", "--output", type=Path, required=True, help="folder of the comparison; what it has is kept")
    sub.add_argument("--methods", nargs="+", default=["simclr"], choices=["simclr", "byol", "simsiam"])
    sub.add_argument("--arms", nargs="+", help="ways of masking; default: none patches blocks adios-one adios-all")
    sub.add_argument("--budgets", nargs="+", default=["images", "time"], choices=["images", "time"])
    sub.add_argument("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    add_quiet(sub)


def _add_robust(commands: Commands) -> None:
    sub = commands.add("evaluate robust occlusion", _occlusion, "accuracy as a growing share of the image is hidden")
    add_task(sub)
    sub.add_argument("--kinds", nargs="+", default=[], help="patches, block, slots; default: all that the model has")
    sub.add_argument("--shares", nargs="+", type=float, help="of the area; default: 0.1 0.25 0.5 0.75 0.9")
    sub.add_argument("--patch", type=int, help="side of a patch in pixels; default: an eighth of the image's")

    sub = commands.add("evaluate robust corruptions", _corruptions, "accuracy under noise, blur, weather and the like")
    add_task(sub)
    sub.add_argument("--baseline", metavar="MODEL", help="another model, for relative errors")
    sub.add_argument(
        "--corruptions", nargs="+", help="names, or groups: noise blur weather digital (default), validation"
    )
    sub.add_argument("--severities", nargs="+", type=int, help="default: 1 2 3 4 5")
    sub.add_argument("--made", type=Path, metavar="FOLDER", help="read corrupted images, in the layout of ImageNet-C")
    sub.add_argument("--workers", type=int, help="processes that corrupt images; default: one a core")

    sub = commands.add("evaluate robust backgrounds", _backgrounds, "the backgrounds challenge of ImageNet-9")
    sub.add_argument("folder", type=Path, help="of the challenge: mixed_same/val/CLASS, mixed_rand/val/CLASS ...")
    add_task(sub, train=False, test=False)


def add_task(parser: argparse.ArgumentParser, *, train: bool = True, test: bool = True) -> None:
    """The model, the images, and what all evaluations share; :func:`task_of` reads it."""
    add_model(parser, more=" or timm:NAME")
    role = "to learn from" if train else "to evaluate too" if test else "to learn from; default: original/train"
    parser.add_argument(
        "--train", required=train, default="", metavar="SOURCE", help=f"labelled images {role}: {_LABELLED}"
    )
    if test:
        parser.add_argument("--test", required=True, metavar="SOURCE", help="labelled images that are judged, likewise")
    parser.add_argument("--train-images", type=int, metavar="N", help="only the first so many of them")
    parser.add_argument("--random", action="store_true", help="the model at random initialisation, for comparison")
    _add_protocol(parser)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
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
    from adios_zoo.train.probe.protocol import protocol
    from adios_zoo.train.probe.task import Task

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
    from adios_zoo.train.probe.table import table

    print((as_text or table)(result))
    write_json(options.json, result)
    return 0


def _void(text: str) -> int | str | None:
    return None if text == "none" else text if text == "auto" else int(text)


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
    from adios_zoo.train.probe.knn import evaluate_knn, grid

    task = task_of(options)
    cells = grid(task.protocol.cells, k=options.k, distances=options.distance, temperatures=options.temperature)
    return show(options, evaluate_knn(task, cells))


def _linear(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.linear import evaluate_linear, evaluate_linear_augmented

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
    from adios_zoo.train.probe.finetune import evaluate_finetune

    task = task_of(options)
    seeds = {"seeds": options.seeds} if options.seeds else {}
    training = _training(options, task.protocol.finetune)
    return show(options, evaluate_finetune(task, training, workers=options.workers, output=options.output, **seeds))


def _cluster(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.cluster import evaluate_cluster

    seeds = {"seeds": options.seeds} if options.seeds else {}
    found = evaluate_cluster(task_of(options), clusters=options.clusters, starts=options.starts, **seeds)
    return show(options, found)


def _segment(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.segment import evaluate_segment, segment_table

    result = evaluate_segment(
        options.model,
        options.test,
        masks=options.masks,
        boxes=options.boxes,
        void=options.void,
        predicted=options.predicted,
        protocol=options.protocol,
        crop_pct=options.crop_pct,
        grid_cells=options.grid,
        test_images=options.test_images,
        seed=options.seed,
        device=options.device,
        progress=not options.quiet,
    )
    return show(options, result, segment_table)


def _occlusion(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.robust import SHARES, evaluate_occlusion, occlusion_table

    shares = options.shares or SHARES
    found = evaluate_occlusion(
        task_of(options), kinds=options.kinds, shares=shares, patch=options.patch, seed=options.seed
    )
    return show(options, found, occlusion_table)


def _corruptions(options: argparse.Namespace) -> int:
    from adios_zoo.cores import usable_cpus
    from adios_zoo.train.probe.corruptions import COMMON, SEVERITIES, corruptions_table, evaluate_corruptions

    result = evaluate_corruptions(
        task_of(options),
        baseline=options.baseline,
        corruptions=options.corruptions or COMMON,
        severities=options.severities or SEVERITIES,
        made=options.made,
        seed=options.seed,
        workers=usable_cpus() if options.workers is None else options.workers,
    )
    return show(options, result, corruptions_table)


def _backgrounds(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.backgrounds import backgrounds_table, evaluate_backgrounds

    return show(options, evaluate_backgrounds(task_of(options), options.folder, seed=options.seed), backgrounds_table)


def _study(options: argparse.Namespace) -> int:
    from adios_zoo.train.study import ARMS, Study
    from adios_zoo.train.study_figures import Judges
    from adios_zoo.train.study_report import draw, tables

    judges = Judges(options.train, options.test, options.transfer_train, options.transfer_test)
    result = Study(options.output, options.recipe, judges).run(
        budgets=options.budgets,
        methods=options.methods,
        arms=options.arms or list(ARMS),
        seeds=options.seeds,
        show_progress=not options.quiet,
    )
    print(tables(result), end="")
    draw(result, options.output / "study.svg")
    return 0
