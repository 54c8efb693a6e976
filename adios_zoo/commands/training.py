"""Commands that train."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from adios_zoo.commands.arguments import SOURCE, Commands, add_columns, add_json, add_onnx, add_quiet, write_json
from adios_zoo.commands.exporting import export_onnx
from adios_zoo.telling import progress_bar


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("pretrain", _pretrain, "Train an encoder and its masker.")
    sub.add_argument("recipe", help="name of a recipe, or the path of a .yaml file")
    sub.add_argument("settings", nargs="*", metavar="key=value", help="such as optimiser.lr=0.2")
    sub.add_argument("--data", required=True, help=SOURCE)
    sub.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    sub.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    sub.add_argument("--held-out", metavar="SOURCE", help="labelled images, for the k-NN accuracy between epochs")
    add_columns(sub, "data", "held_out")
    sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    sub.add_argument("--workers", type=int, help="processes that read images which do not fit in memory; one a core")
    add_onnx(sub)
    add_quiet(sub)

    sub = commands.add(
        "recipes", _recipes, "Name the recipes that come with the package, or print one with all its settings."
    )
    sub.add_argument("recipe", nargs="?", help="name of a recipe, or the path of a .yaml file")
    sub.add_argument("settings", nargs="*", metavar="key=value", help="such as optimiser.lr=0.2")

    sub = commands.add("report", _report, "Write report.html of a run, at any time.")
    sub.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run")
    sub.add_argument("-o", "--output", type=Path, help="default: RUN/report.html")

    sub = commands.add("bench train", _bench_train, "training steps, against the game played pass by pass")
    sub.add_argument("--method", choices=["simclr", "byol", "simsiam"], help="one game; default: a set of five")
    sub.add_argument("--slots", type=int, default=4, help="masks of that game; default: 4")
    sub.add_argument("--mask-use", choices=["all", "one"], default="all", help="of that game; default: all")
    sub.add_argument(
        "--terms", nargs="*", default=[], choices=["no_mask", "symmetry", "both"], help="of that game's SimSiam loss"
    )
    sub.add_argument("--size", type=int, default=96, help="side of the views in pixels; default: 96")
    sub.add_argument("--batch", type=int, default=32, help="images a step; default: 32")
    sub.add_argument("--encoder", default="resnet18", help="timm's name; default: resnet18")
    sub.add_argument("--masker-base", type=int, default=32, help="channels of the masker's first block; default: 32")
    sub.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the engine; default: fp32")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    sub.add_argument("--threads", type=int, default=0, help="default: one a core")
    sub.add_argument("--rounds", type=int, default=5, help="steps of each way, in turns; default: 5")
    add_json(sub)


def _pretrain(options: argparse.Namespace) -> int:
    from adios_zoo.train.processes import is_main_process
    from adios_zoo.train.recipe.recipe import read_recipe
    from adios_zoo.train.run.pretraining import pretrain

    folder = pretrain(
        read_recipe(options.recipe, options.settings),
        options.data,
        options.output,
        resume=options.resume,
        held_out=options.held_out,
        device=options.device,
        workers=options.workers,
        show_progress=not options.quiet,
    )
    if is_main_process():
        if options.onnx:
            export_onnx(f"local-dir:{folder}", folder)
        print(folder)
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from adios_zoo.train.recipe import files as recipe_files

    if options.recipe is None:
        print(recipe_files.recipe_table())
        return 0
    from adios_zoo.train.recipe.recipe import read_recipe

    print(recipe_files.to_yaml(read_recipe(options.recipe, options.settings).to_dict()), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    from adios_zoo.train.report.page import write_report

    print(write_report(options.run_folder, options.output))
    return 0


def _bench_train(options: argparse.Namespace) -> int:
    from adios_zoo.train.run import bench

    settings = ("size", "batch", "encoder", "masker_base", "device", "precision", "threads")
    case = bench.Case(**{name: getattr(options, name) for name in settings})
    if options.method:
        game = {"method": options.method, "slots": options.slots, "mask_use": options.mask_use}
        cases = [dataclasses.replace(case, **game, terms=tuple(options.terms))]
    else:
        cases = bench.standard_cases(case)
    figures = [
        bench.measure(c, rounds=options.rounds) for c in progress_bar(cases, unit="case", leave=False, show=None)
    ]
    print(bench.table(figures))
    write_json(options.json, [f.to_dict() for f in figures])
    return 0
