"""Commands that export models and prove the exports."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from adios_zoo.commands.arguments import (
    MODEL,
    Commands,
    add_columns,
    add_json,
    add_model,
    add_quiet,
    images_of,
    write_json,
)
from adios_zoo.errors import ConfigError
from adios_zoo.telling import tell


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "export", _export, "Write ONNX files of a model, compared with torch, or a web page that runs it."
    )
    sub.add_argument("model", help=MODEL)
    sub.add_argument("-o", "--output", type=Path, required=True, help="model folder; made if absent")
    sub.add_argument(
        "--precision",
        nargs="+",
        choices=["fp32", "fp16", "int8"],
        default=["fp32"],
        help="of the encoder; fp32 is always written",
    )
    sub.add_argument("--calibration", metavar="SOURCE", help="images that set the ranges of int8 activations")
    sub.add_argument("--holdout", metavar="SOURCE", help="images that judge fp16 and int8; with labels by k-NN too")
    add_columns(sub, "calibration", "holdout")
    sub.add_argument("--force", action="store_true", help="write fp16 and int8 even if they are judged too bad")
    sub.add_argument(
        "--layout",
        choices=["model", "triton", "web"],
        default="model",
        help="model folder (default), model repository of a Triton server, or web page",
    )
    sub.add_argument("--gallery", help="web: images among which the page finds the nearest; they become part of it")
    sub.add_argument("--runtime", type=Path, help="web: an onnxruntime-web package, instead of npm's")
    add_quiet(sub)

    sub = commands.add("verify", _verify, "Prove that a model is what its card says, in every backend present.")
    sub.add_argument("model", help=MODEL)

    sub = commands.add("bench extract", _bench_extract, "features of photographs, in every way there is here")
    sub.add_argument("images", nargs="+", help="photographs: files, folders, glob patterns, or .txt lists of paths")
    add_model(sub)
    sub.add_argument("--images-a-round", type=int, metavar="N", help="default: all once, or 24 large ones")
    sub.add_argument("--rounds", type=int, default=3, help="turns of each way, whose median counts; default: 3")
    sub.add_argument("--megapixels", type=float, help="enlarge the photographs to so many first, in a temporary folder")
    sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    sub.add_argument("--startup", action="store_true", help="measure process start to first feature instead")
    add_json(sub)
    add_quiet(sub)


def _export(options: argparse.Namespace) -> int:
    if options.layout == "web":
        return _export_web(options)
    if options.gallery or options.runtime:
        raise ConfigError("--gallery and --runtime belong to --layout web.")
    if options.layout == "triton":
        return _layout(options)
    from adios_zoo.export.precision import plan_precisions, write_precisions
    from adios_zoo.models.card import onnx_encoder

    plan = plan_precisions(options.model, options.precision, calibration=options.calibration, holdout=options.holdout)
    export_onnx(options.model, options.output)
    outcomes = write_precisions(plan, options.output, force=options.force, progress=not options.quiet)
    for precision, outcome in outcomes.items():
        facts = outcome.facts
        knn = "" if facts.knn is None else f", k-NN {facts.knn:.2f} % (float32 {facts.knn_fp32:.2f} %)"
        print(f"{options.output / onnx_encoder(precision)}: median cosine to float32 {facts.cosine:.5f}{knn}")
        if outcome.fault:
            verdict = "It was written by force." if outcome.written else "It was not written; --force writes it."
            tell(f"adios: {precision}: {outcome.fault} {verdict}")
    return 0 if all(outcome.written for outcome in outcomes.values()) else 1


def export_onnx(model: str, folder: Path) -> None:
    """Export a model into its folder and say how near each file is."""
    from adios_zoo.export.to_onnx import export
    from adios_zoo.models.card import ONNX_FOLDER

    for name, difference in export(model, folder).items():
        print(f"{folder / ONNX_FOLDER / name}.onnx: largest difference from torch {difference:.1e}")


def _layout(options: argparse.Namespace) -> int:
    from adios_zoo.export.triton import write_layout

    if options.precision != ["fp32"]:
        raise ConfigError(
            "A layout takes the precisions that a model folder has: write them by `adios export MODEL -o FOLDER "
            "--precision ...`, then lay out FOLDER."
        )
    for path in write_layout(options.model, options.output):
        print(path)
    return 0


def _export_web(options: argparse.Namespace) -> int:
    from adios_zoo.export.web import export_web

    folder = export_web(options.model, options.output, gallery=options.gallery, runtime=options.runtime)
    print(f"{folder}: serve it with `python -m http.server --directory {folder}` and open http://localhost:8000/")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from adios_zoo.export.verification import verify

    checks = verify(options.model)
    for check in checks:
        verdict = {True: "pass", False: "FAIL", None: "skip"}[check.passed]
        print(f"{verdict}  {check.what}: {check.note}")
    failed = [check for check in checks if check.passed is False]
    print(f"{options.model}: {f'{len(failed)} of {len(checks)} checks failed' if failed else 'verified'}")
    return 1 if failed else 0


def _bench_extract(options: argparse.Namespace) -> int:
    from adios_zoo.export import bench

    if options.startup:
        seconds = bench.startup(options.model, images_of(options), rounds=options.rounds)
        for backend, value in seconds.items():
            print(f"{backend}: {value:.2f} s from process start to the first feature")
        figures: object = seconds
    else:
        rows = bench.bench_extract(
            options.model,
            images_of(options),
            count=options.images_a_round,
            rounds=options.rounds,
            megapixels=options.megapixels,
            device=options.device,
            progress=(lambda text: None) if options.quiet else (lambda text: tell(text)),
        )
        print(bench.report(rows))
        figures = [dataclasses.asdict(row) for row in rows]
    write_json(options.json, figures)
    return 0
