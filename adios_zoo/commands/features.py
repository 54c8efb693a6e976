"""Commands that read images: features, neighbours, masks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from adios_zoo.commands.arguments import (
    MODEL,
    SOURCE,
    Commands,
    add_columns,
    add_images,
    add_model,
    add_quiet,
    count_or_auto,
    images_of,
)
from adios_zoo.errors import ConfigError
from adios_zoo.telling import tell


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("extract", _extract, "Write the features of images to a file.")
    add_images(sub, output="features.parquet, .npy, .safetensors or .csv")
    add_model(sub)
    sub.add_argument("--backend", default="torch", help="torch (default), or onnx for a folder of `adios export`")
    sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    sub.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16; with onnx fp16 or int8")
    sub.add_argument("--batch-size", type=count_or_auto, default="auto", help="images a batch; default: auto")
    sub.add_argument("--workers", type=count_or_auto, default="auto", help="decoding threads; default: auto")
    sub.add_argument("--engine", choices=["local", "ray"], default="local", help="ray: on the actors of a Ray cluster")
    sub.add_argument("--actors", type=count_or_auto, default="auto", help="of ray; default: one a GPU or four cores")
    sub.add_argument("--skip-bad", action="store_true", help="exit 0 even if some images could not be read")
    sub.add_argument("--resume", action="store_true", help="go on with the unfinished run of this output, if any")
    sub.add_argument("--force", action="store_true", help="begin anew, over a finished or an unfinished output")
    sub.add_argument("--shard", metavar="i/n", help="only the i-th, from 0, of n equal parts of the images")
    add_quiet(sub)

    sub = commands.add("neighbours", _neighbours, "Find what is most like an image in a feature file.")
    sub.add_argument(
        "queries", nargs="+", metavar="QUERY", help="id in the file, image file, folder, glob or .txt list"
    )
    sub.add_argument("--in", dest="features", type=Path, required=True, metavar="FEATURES", help="of `adios extract`")
    sub.add_argument("-k", type=int, default=5, help="neighbours; default: 5")
    sub.add_argument("--model", help=f"{MODEL}; default: the one that the file names")
    sub.add_argument("--backend", default="torch", help="torch (default), or onnx for a folder of `adios export`")
    sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    sub.add_argument("--json", action="store_true", help="print the answers as JSON")
    sub.add_argument("--sheet", type=Path, metavar="PNG", help="draw them as a contact sheet")
    sub.add_argument(
        "--images", nargs="+", default=[], help="where the sheet's pictures are; default: the ids are paths"
    )

    sub = commands.add("masks", _masks, "Draw the masks of images.")
    add_images(sub, output="folder for the pictures")
    add_model(sub)
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    sub.add_argument("--npy", action="store_true", help="write the masks as (N, H, W) .npy files too")
    add_quiet(sub)

    sub = commands.add("data", _data, "Say what a source of images holds.")
    sub.add_argument("source", help=SOURCE)
    add_columns(sub, "source")
    sub.add_argument("--download", action="store_true", help="let torchvision fetch a data set that is not there")


def _extract(options: argparse.Namespace) -> int:
    from adios_zoo.features.extract_to_file import check_not_finished, extract_to_file
    from adios_zoo.features.extractor import Engine, FeatureExtractor

    settings = {
        "backend": options.backend,
        "device": options.device,
        "precision": options.precision,
        "batch_size": options.batch_size,
        "num_workers": options.workers,
    }
    if options.actors != "auto" and options.engine != "ray":
        raise ConfigError("--actors is for --engine ray alone.")
    check_not_finished(options.output, resume=options.resume, force=options.force)  # before the model is loaded
    if options.engine == "ray":
        from adios_zoo.features.ray_engine import RayExtractor

        extractor: Engine = RayExtractor(options.model, actors=options.actors, **settings)
    else:
        extractor = FeatureExtractor(options.model, **settings)
    report = extract_to_file(
        images_of(options),
        options.output,
        extractor=extractor,
        progress=not options.quiet,
        skip_bad=options.skip_bad,
        resume=options.resume,
        force=options.force,
        shard=options.shard,
    )
    before = "finished already, " if report.finished_before else ""
    print(f"{options.output}: {before}{report.rows} images, {report.dim} features each")
    return report.exit_code


def _neighbours(options: argparse.Namespace) -> int:
    from adios_zoo.search.neighbours import find_neighbours, table

    answers, failures = find_neighbours(
        options.queries,
        options.features,
        k=options.k,
        model=options.model,
        backend=options.backend,
        device=options.device,
    )
    for failure in failures:
        tell(f"adios: {failure.id}: {failure.reason}")
    if options.json:
        found = [
            {"query": a.query, "neighbours": [{"path": id, "cosine": cosine} for id, cosine in a.neighbours]}
            for a in answers
        ]
        print(json.dumps(found, indent=2))
    elif answers:
        print(table(answers))
    if options.sheet and answers:
        from adios_zoo.pictures.neighbour_sheet import write_sheet

        write_sheet(options.sheet, answers, title=str(options.features), images=options.images)
    return 1 if failures else 0


def _masks(options: argparse.Namespace) -> int:
    from adios_zoo.pictures.draw import draw_masks
    from adios_zoo.zoo.load import load_model

    model = load_model(options.model, device=options.device)
    report = draw_masks(model, images_of(options), options.output, save_npy=options.npy, progress=not options.quiet)
    print(f"{options.output}: {len(report.written)} files")
    for failure in report.failures:
        tell(f"adios: {failure.id}: {failure.reason}")
    return 1 if report.failures else 0


def _data(options: argparse.Namespace) -> int:
    from adios_zoo.sources.describe import describe

    for line in describe(options.source, download=options.download):
        print(line)
    return 0
