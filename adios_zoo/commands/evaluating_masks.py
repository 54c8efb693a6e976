"""Commands that judge masks, and accuracy on altered images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adios_zoo.commands.arguments import SOURCE, Commands, add_json, add_model, add_quiet, write_json

if TYPE_CHECKING:
    from adios_zoo.train.probe.task import Task


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("evaluate segment", _segment, "masks against label maps or boxes, beside baselines")
    add_model(sub)
    sub.add_argument("--test", required=True, help=f"images: {SOURCE}")
    sub.add_argument("--masks", type=Path, metavar="FOLDER", help="label maps, PNG files under the images' names")
    sub.add_argument("--boxes", type=Path, metavar="FILE", help="boxes: JSON in the form of COCO's annotations")
    sub.add_argument("--void", type=_void, default="auto", help="label that is not judged: auto (default: 255), none")
    sub.add_argument("--predicted", type=Path, metavar="FOLDER", help="judge NAME.npy, (N, H, W), instead of a model")
    sub.add_argument("--grid", type=int, default=None, help="cells of the grid baseline; default: as many as slots")
    _add_protocol(sub, "standard (default): of the whole image; paper: of what the card says, with the authors' mAP")

    sub = commands.add("evaluate robust occlusion", _occlusion, "accuracy as a growing share of the image is hidden")
    _add_task(sub)
    sub.add_argument("--kinds", nargs="+", default=[], help="patches, block, slots; default: all that the model has")
    sub.add_argument("--shares", nargs="+", type=float, help="of the area; default: 0.1 0.25 0.5 0.75 0.9")
    sub.add_argument("--patch", type=int, help="side of a patch in pixels; default: an eighth of the image's")
    _add_protocol(sub)

    sub = commands.add("evaluate robust corruptions", _corruptions, "accuracy under noise, blur, weather and the like")
    _add_task(sub)
    sub.add_argument("--baseline", metavar="MODEL", help="another model, for relative errors")
    sub.add_argument("--corruptions", nargs="+", help="names or groups: noise, blur, weather, digital, validation")
    sub.add_argument("--severities", nargs="+", type=int, help="default: 1 2 3 4 5")
    sub.add_argument("--made", type=Path, metavar="FOLDER", help="read corrupted images, in the layout of ImageNet-C")
    sub.add_argument("--workers", type=int, help="processes that corrupt images; default: one a core")
    _add_protocol(sub)

    sub = commands.add("evaluate robust backgrounds", _backgrounds, "the backgrounds challenge of ImageNet-9")
    sub.add_argument("folder", type=Path, help="its folder: mixed_same/val/CLASS, mixed_rand/val/CLASS ...")
    _add_task(sub, test=False)
    _add_protocol(sub)


def _void(text: str) -> int | str | None:
    return None if text == "none" else text if text == "auto" else int(text)


def _add_task(sub: argparse.ArgumentParser, *, test: bool = True) -> None:
    add_model(sub)
    train = "labelled images that the classifier is fitted to"
    if test:
        sub.add_argument("--train", required=True, help=f"{train}: {SOURCE}")
        sub.add_argument("--test", required=True, help=f"labelled images that are judged: {SOURCE}")
    else:
        sub.add_argument("--train", default="", help=f"{train}; default: original/train of the folder: {SOURCE}")
    sub.add_argument("--train-images", type=int, help="only the first so many of them")


def _add_protocol(sub: argparse.ArgumentParser, text: str = "standard (default) or paper, the card's own crop") -> None:
    sub.add_argument("--test-images", type=int, help="only the first so many of them")
    sub.add_argument("--protocol", choices=["standard", "paper"], default="standard", help=text)
    sub.add_argument("--crop-pct", type=float, help="centre crop at this share instead of the protocol's")
    sub.add_argument("--seed", type=int, default=0, help="of what is random; default: 0")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    add_json(sub, "the figures and all settings")
    add_quiet(sub)


def _task(options: argparse.Namespace) -> Task:
    from adios_zoo.train.probe.protocol import protocol
    from adios_zoo.train.probe.task import Task

    return Task(
        train=options.train,
        test=getattr(options, "test", ""),
        model=options.model,
        protocol=protocol(options.protocol, crop_pct=options.crop_pct),
        train_images=options.train_images,
        test_images=options.test_images,
        device=options.device,
        progress=not options.quiet,
    )


def _segment(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.segment import evaluate_segment

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
    _print(["", *result["figures"]], _rows(result["figures"]))
    test = result["test"]
    print(f"\n{test['images']} images, {test['objects']} objects; {test['without_ground_truth']} without ground truth")
    write_json(options.json, result)
    return 0


def _occlusion(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.robust import SHARES, evaluate_occlusion

    result = evaluate_occlusion(
        _task(options),
        kinds=options.kinds,
        shares=options.shares or SHARES,
        patch=options.patch,
        seed=options.seed,
    )
    both = {
        kind: {
            share: f"{value:.2f}{'' if lost is None else f' ({-lost:+.0f} %)'}"
            for (share, value), lost in zip(row.items(), result["drop"][kind].values(), strict=True)
        }
        for kind, row in result["accuracy"].items()
    }
    print(f"top-1 {result['clean']:.2f} % on clean images; with a share hidden, and how much of it is lost:\n")
    _print(["share", *both], _rows(both))
    if "slots" in result:
        print()
        slots = result["slots"]
        _print(
            ["slot hidden", "area", "top-1"],
            [[str(i), f"{slot['area']:.1f} %", f"{slot['accuracy']:.2f}"] for i, slot in enumerate(slots, 1)],
        )
    write_json(options.json, result)
    return 0


def _corruptions(options: argparse.Namespace) -> int:
    from adios_zoo.cores import usable_cpus
    from adios_zoo.train.probe.corruptions import COMMON, SEVERITIES, evaluate_corruptions

    result = evaluate_corruptions(
        _task(options),
        baseline=options.baseline,
        corruptions=options.corruptions or COMMON,
        severities=options.severities or SEVERITIES,
        made=options.made,
        seed=options.seed,
        workers=usable_cpus() if options.workers is None else options.workers,
    )
    severities = sorted({severity for row in result["accuracy"].values() for severity in row})
    errors = result.get("error", {})
    _print(
        ["corruption", *severities, *(["CE", "relative CE"] if errors else [])],
        [
            [
                name,
                *(_number(row.get(severity)) for severity in severities),
                *([_number(errors["ce"][name]), _number(errors["relative_ce"][name])] if errors else []),
            ]
            for name, row in result["accuracy"].items()
        ],
    )
    print(f"\ntop-1 {result['clean']:.2f} % on clean images, {result['mean']:.2f} % on corrupted ones, the mean of all")
    if errors:
        mean_ce, mean_relative = (_number(errors[name]) for name in ("mean_ce", "mean_relative_ce"))
        print(f"mCE {mean_ce}, relative mCE {mean_relative}, against {result['baseline']['model']}")
    write_json(options.json, result)
    return 0


def _backgrounds(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.backgrounds import evaluate_backgrounds

    result = evaluate_backgrounds(_task(options), options.folder, seed=options.seed)
    _print(["variation", "top-1"], [[name, _number(value)] for name, value in result["accuracy"].items()])
    if result["bg_gap"] is not None:
        print(f"\nBG-gap {result['bg_gap']:.2f} points: mixed_same less mixed_rand")
    write_json(options.json, result)
    return 0


def _rows(columns: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of a table from its columns, which all have the same keys."""
    first = next(iter(columns.values()))
    return [[key, *(_number(column[key]) for column in columns.values())] for key in first]


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _print(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    for row in (headings, *rows):
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
