"""Commands that measure masks and what hiding does: against known objects, on altered images, in pretraining."""

from __future__ import annotations

import argparse
from pathlib import Path

from adios_zoo.commands.arguments import SOURCE, Commands, add_columns, add_model, add_quiet
from adios_zoo.commands.evaluating import add_protocol, add_task, show, task_of


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("evaluate segment", _segment, "masks against label maps or boxes, beside baselines")
    add_model(sub)
    sub.add_argument("--test", required=True, metavar="SOURCE", help=f"images: {SOURCE}")
    add_columns(sub, "test")
    sub.add_argument("--masks", type=Path, metavar="FOLDER", help="label maps: PNG files under the images' names")
    sub.add_argument("--boxes", type=Path, metavar="FILE", help="boxes: JSON in the form of COCO's annotations")
    sub.add_argument(
        "--void", type=_void, default="auto", help="label that is not judged: a number, none or auto (default): 255"
    )
    sub.add_argument("--predicted", type=Path, metavar="FOLDER", help="judge NAME.npy, (N, H, W), instead of a model")
    sub.add_argument("--grid", type=int, metavar="N", help="cells of the baseline; default: as many as slots")
    add_protocol(sub)

    _add_robust(commands)
    _add_study(commands)


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


def _add_study(commands: Commands) -> None:
    sub = commands.add("evaluate study", _study, "train with every way of masking at equal cost, and compare")
    sub.add_argument("--recipe", default="study_cifar10", help="what all runs share; default: study_cifar10")
    sub.add_argument(
        "--train", required=True, metavar="SOURCE", help=f"labelled images to train on and to fit: {SOURCE}"
    )
    sub.add_argument("--test", required=True, metavar="SOURCE", help="labelled images that are judged")
    sub.add_argument("--transfer-train", required=True, metavar="SOURCE", help="labelled images of another set, to fit")
    sub.add_argument("--transfer-test", required=True, metavar="SOURCE", help="those of it that are judged")
    add_columns(sub, "train", "test", "transfer_train", "transfer_test")
    sub.add_argument("-o", "--output", type=Path, required=True, help="folder of the comparison; what it has is kept")
    sub.add_argument("--methods", nargs="+", default=["simclr"], choices=["simclr", "byol", "simsiam"])
    sub.add_argument("--arms", nargs="+", help="ways of masking; default: none patches blocks adios-one adios-all")
    sub.add_argument("--budgets", nargs="+", default=["images", "time"], choices=["images", "time"])
    sub.add_argument("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    sub.add_argument("--train-images", type=int, default=10_000, metavar="N", help="to fit; default: the first 10000")
    sub.add_argument("--validation-images", type=int, default=5_000, metavar="N", help="the next; default: 5000")
    sub.add_argument("--test-images", type=int, default=10_000, metavar="N", help="default: the first 10000")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    add_quiet(sub)


def _void(text: str) -> int | str | None:
    if text in ("none", "auto"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a label's number nor none or auto") from error


def _segment(options: argparse.Namespace) -> int:
    from adios_zoo.train.evaluate.segmentation.segment import evaluate_segment, segment_table

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
    from adios_zoo.train.evaluate.robustness.occlusion import SHARES, evaluate_occlusion, occlusion_table

    shares = options.shares or SHARES
    found = evaluate_occlusion(
        task_of(options), kinds=options.kinds, shares=shares, patch=options.patch, seed=options.seed
    )
    return show(options, found, occlusion_table)


def _corruptions(options: argparse.Namespace) -> int:
    from adios_zoo.cores import usable_cpus
    from adios_zoo.train.evaluate.robustness.corruptions import (
        COMMON,
        SEVERITIES,
        corruptions_table,
        evaluate_corruptions,
    )

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
    from adios_zoo.train.evaluate.robustness.backgrounds import backgrounds_table, evaluate_backgrounds

    return show(options, evaluate_backgrounds(task_of(options), options.folder, seed=options.seed), backgrounds_table)


def _study(options: argparse.Namespace) -> int:
    from adios_zoo.train.study.figures import Judges
    from adios_zoo.train.study.study import ARMS, Study
    from adios_zoo.train.study.tables import draw, tables

    judges = Judges(
        options.train,
        options.test,
        options.transfer_train,
        options.transfer_test,
        train_images=options.train_images,
        validation_images=options.validation_images,
        test_images=options.test_images,
        device=options.device,
    )
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
