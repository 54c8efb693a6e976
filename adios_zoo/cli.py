"""The command line: ``adios``.  Every command is thin; the work is in the module that it names."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from adios_zoo import __version__
from adios_zoo.errors import AdiosError, ConfigError
from adios_zoo.registry import DEFAULT_MODEL

SOURCE = (
    "folder, glob, .txt list or image file, parquet:GLOB, tar:GLOB, hf:ORG/NAME, torchvision:NAME or an address such "
    "as s3://BUCKET/FOLDER; see docs/data.md"
)
MODEL = "name, model folder, local-dir:PATH or hf-hub:ORG/NAME"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``adios`` with these arguments (the process's, if none are given) and return its exit code.

    0 is success, 2 a mistake in the call, 1 everything else; a mistake is one line on stderr.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        print("adios: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; a second failure at interpreter exit helps nobody.
        sys.stderr.close()
        return 1
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, AdiosError):
            print(f"adios: {error}", file=sys.stderr)
            return error.exit_code
        reason = str(error).partition("\n")[0] or type(error).__name__
        print(f"adios: unexpected {type(error).__name__}: {reason} (--debug shows where)", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adios", description="ADIOS encoders and maskers.")
    parser.add_argument("--version", action="version", version=f"adios-zoo {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("list", _list, "Name the models of the zoo.")
    sub.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as 'resnet18_*'")
    sub.add_argument("--json", action="store_true", help="print the cards as JSON")

    sub = command("show", _show, "Print the card of a model.")
    sub.add_argument("name")
    sub.add_argument("--json", action="store_true", help="print the card as JSON")

    sub = command("extract", _extract, "Write the features of images to a file.")
    _add_images(sub, output="features.parquet, .npy, .safetensors or .csv")
    _add_model(sub)
    sub.add_argument("--backend", default="torch", help="torch (default), or onnx for a folder of `adios export`")
    sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    sub.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16; with onnx fp16 or int8")
    sub.add_argument("--batch-size", type=_count_or_auto, default="auto", help="images a batch; default: auto")
    sub.add_argument("--workers", type=_count_or_auto, default="auto", help="decoding threads; default: auto")
    sub.add_argument("--engine", choices=["local", "ray"], default="local", help="ray: on the actors of a Ray cluster")
    sub.add_argument("--actors", type=_count_or_auto, default="auto", help="of ray; default: one a GPU or four cores")
    sub.add_argument("--skip-bad", action="store_true", help="exit 0 even if some images could not be read")
    sub.add_argument("--resume", action="store_true", help="go on with the unfinished run of this output, if any")
    sub.add_argument("--shard", metavar="i/n", help="only the i-th, from 0, of n equal parts of the images")
    _add_quiet(sub)

    sub = command("neighbours", _neighbours, "Find what is most like an image in a feature file.")
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

    sub = command("masks", _masks, "Draw the masks of images.")
    _add_images(sub, output="folder for the pictures")
    _add_model(sub)
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    sub.add_argument("--npy", action="store_true", help="write the masks as (N, H, W) .npy files too")
    _add_quiet(sub)

    sub = command("data", _data, "Say what a source of images holds.")
    sub.add_argument("source", help=SOURCE)
    sub.add_argument("--download", action="store_true", help="let torchvision fetch a data set that is not there")

    sub = command("pretrain", _pretrain, "Train an encoder and its masker.")
    sub.add_argument("recipe", help="name of a recipe, or the path of a .yaml file")
    sub.add_argument("settings", nargs="*", metavar="key=value", help="such as optimiser.lr=0.2")
    sub.add_argument("--data", required=True, help=SOURCE)
    sub.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    sub.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    sub.add_argument("--held-out", metavar="SOURCE", help="labelled images, for the k-NN accuracy between epochs")
    sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    sub.add_argument("--workers", type=int, help="processes that read images which do not fit in memory; one a core")
    _add_onnx(sub)
    _add_quiet(sub)

    sub = command(
        "recipes", _recipes, "Name the recipes that come with the package, or print one with all its settings."
    )
    sub.add_argument("recipe", nargs="?", help="name of a recipe, or the path of a .yaml file")
    sub.add_argument("settings", nargs="*", metavar="key=value", help="such as optimiser.lr=0.2")

    sub = command("report", _report, "Write report.html of a run, at any time.")
    sub.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run")
    sub.add_argument("-o", "--output", type=Path, help="default: RUN/report.html")

    bench = commands.add_parser("bench", help="Measure this machine's speed, against the plain way.")
    benches = bench.add_subparsers(title="what", required=True, metavar="WHAT")
    sub = benches.add_parser("train", parents=[common], help="training steps, against the game played pass by pass")
    sub.set_defaults(run=_bench_train)
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
    sub.add_argument("--json", type=Path, help="write the figures to this file")

    evaluate = commands.add_parser("evaluate", help="Measure what an encoder is worth.")
    evaluations = evaluate.add_subparsers(title="protocols", required=True, metavar="PROTOCOL")
    sub = evaluations.add_parser("knn", parents=[common], help="weighted k-nearest-neighbour accuracy")
    sub.set_defaults(run=_knn)
    _add_model(sub)
    sub.add_argument("--train", required=True, help=f"labelled images that vote: {SOURCE}")
    sub.add_argument("--test", required=True, help=f"labelled images that are judged: {SOURCE}")
    sub.add_argument("--train-images", type=int, help="only the first so many of them")
    sub.add_argument("--test-images", type=int, help="only the first so many of them")
    sub.add_argument("-k", type=int, default=20, help="neighbours; default: 20")
    sub.add_argument("--temperature", type=float, default=0.07, help="of the cosine votes; default: 0.07")
    sub.add_argument("--distance", choices=["cosine", "euclidean"], default="cosine")
    sub.add_argument("--random", action="store_true", help="the model at random initialisation, for comparison")
    sub.add_argument("--seed", type=int, default=0, help="of the random initialisation")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    sub.add_argument("--json", type=Path, help="write the figures and all settings to this file")
    _add_quiet(sub)

    sub = command("export", _export, "Write ONNX files of a model, compared with torch, or a web page that runs it.")
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
    sub.add_argument("--force", action="store_true", help="write fp16 and int8 even if they are judged too bad")
    sub.add_argument(
        "--layout",
        choices=["model", "triton", "web"],
        default="model",
        help="model folder (default), model repository of a Triton server, or web page",
    )
    sub.add_argument("--gallery", help="web: images among which the page finds the nearest; they become part of it")
    sub.add_argument("--runtime", type=Path, help="web: an onnxruntime-web package, instead of npm's")
    _add_quiet(sub)

    bench = commands.add_parser("bench", help="Measure this machine's speed, against the plain way.")
    benches = bench.add_subparsers(title="what", required=True, metavar="WHAT")
    sub = benches.add_parser("extract", parents=[common], help="features of photographs, in every way there is here")
    sub.set_defaults(run=_bench_extract)
    sub.add_argument("images", nargs="+", help="photographs: files, folders, glob patterns, or .txt lists of paths")
    _add_model(sub)
    sub.add_argument("--images-a-round", type=int, metavar="N", help="default: all once, or 24 large ones")
    sub.add_argument("--rounds", type=int, default=3, help="turns of each way, whose median counts; default: 3")
    sub.add_argument("--megapixels", type=float, help="enlarge the photographs to so many first, in a temporary folder")
    sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    sub.add_argument("--startup", action="store_true", help="measure process start to first feature instead")
    sub.add_argument("--json", type=Path, help="write the figures to this file")
    _add_quiet(sub)

    sub = command("verify", _verify, "Prove that a model is what its card says, in every backend present.")
    sub.add_argument("model", help=MODEL)

    sub = command("convert", _convert, "Turn a release of the authors into a model folder.")
    sub.add_argument("release", type=Path, help="the published .zip, or the folder that it unpacks to")
    sub.add_argument("-o", "--output", type=Path, required=True, help="model folder; absent or empty")
    sub.add_argument("--heads", action="store_true", help="write projector and predictor too")
    _add_onnx(sub)

    sub = command("publish", _publish, "Put a model folder on the Hugging Face Hub.")
    sub.add_argument("folder", type=Path, help="model folder")
    sub.add_argument("--repo", required=True, metavar="ORG/NAME", help="made if it is not there")
    sub.add_argument("--private", action="store_true", help="make it a private one")
    sub.add_argument("--revision", help="branch that takes the commit; default: the main one")
    sub.add_argument("--message", default="Upload an ADIOS model", help="of the commit")
    sub.add_argument("--dry-run", action="store_true", help="only show what would go")
    _add_onnx(sub)

    sub = command("cache", _cache, "List or remove the models that were fetched.")
    sub.add_argument("action", nargs="?", choices=["list", "remove"], default="list", help="default: list")
    sub.add_argument("names", nargs="*", metavar="NAME", help="what to remove")
    sub.add_argument("--all", action="store_true", help="remove everything")

    sub = command("demo", _demo, "Features, neighbours and masks of sample photographs, without a network.")
    sub.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder for the pictures; default: demo")
    _add_model(sub)
    return parser


def _add_images(parser: argparse.ArgumentParser, *, output: str) -> None:
    parser.add_argument("images", nargs="+", help=SOURCE)
    parser.add_argument("-o", "--output", type=Path, required=True, help=output)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"{MODEL}; default: {DEFAULT_MODEL}")


def _add_onnx(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--onnx", action="store_true", help="write the model's ONNX files too, as `adios export` does")


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _count_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _images(options: argparse.Namespace) -> str | list[str]:
    # One path that does not exist is a mistake in the call; one of many is a row that fails.
    return options.images[0] if len(options.images) == 1 else list(options.images)


def _list(options: argparse.Namespace) -> int:
    from adios_zoo import registry

    names = registry.list_models(options.pattern)
    if options.json:
        print(json.dumps({name: registry.card(name).to_dict() for name in names}, indent=2))
        return 0
    print(registry.table(names))
    return 0


def _show(options: argparse.Namespace) -> int:
    from adios_zoo import registry

    card = registry.card(options.name)
    if options.json:
        print(json.dumps(card.to_dict(), indent=2))
        return 0
    for key, value in card.to_dict().items():
        if isinstance(value, dict) and value:
            print(f"{key}:")
            for inner, v in value.items():
                print(f"  {inner}: {v}")
        elif key == "figures":
            for figure in card.figures:
                print(f"figure: {figure.name}: {figure.value:g} {figure.unit}\n  {figure.command}")
        elif value not in (None, {}, ()):
            print(f"{key}: {value}")
    return 0


def _extract(options: argparse.Namespace) -> int:
    from adios_zoo.extract import Engine, FeatureExtractor
    from adios_zoo.extract_file import extract_to_file

    settings = {
        "backend": options.backend,
        "device": options.device,
        "precision": options.precision,
        "batch_size": options.batch_size,
        "num_workers": options.workers,
    }
    if options.actors != "auto" and options.engine != "ray":
        raise ConfigError("--actors is for --engine ray alone.")
    if options.engine == "ray":
        from adios_zoo.ray_engine import RayExtractor

        extractor: Engine = RayExtractor(options.model, actors=options.actors, **settings)
    else:
        extractor = FeatureExtractor(options.model, **settings)
    report = extract_to_file(
        _images(options),
        options.output,
        extractor=extractor,
        progress=not options.quiet,
        skip_bad=options.skip_bad,
        resume=options.resume,
        shard=options.shard,
    )
    print(f"{options.output}: {report.rows} images, {report.dim} features each")
    return report.exit_code


def _neighbours(options: argparse.Namespace) -> int:
    from adios_zoo.neighbours import find_neighbours, table

    answers, failures = find_neighbours(
        options.queries,
        options.features,
        k=options.k,
        model=options.model,
        backend=options.backend,
        device=options.device,
    )
    for failure in failures:
        print(f"adios: {failure.id}: {failure.reason}", file=sys.stderr)
    if options.json:
        found = [
            {"query": a.query, "neighbours": [{"path": id, "cosine": cosine} for id, cosine in a.neighbours]}
            for a in answers
        ]
        print(json.dumps(found, indent=2))
    elif answers:
        print(table(answers))
    if options.sheet and answers:
        from adios_zoo.neighbour_sheet import write_sheet

        write_sheet(options.sheet, answers, title=str(options.features), images=options.images)
    return 1 if failures else 0


def _masks(options: argparse.Namespace) -> int:
    from adios_zoo.draw import draw_masks
    from adios_zoo.model import load_model

    model = load_model(options.model, device=options.device)
    report = draw_masks(model, _images(options), options.output, save_npy=options.npy, progress=not options.quiet)
    print(f"{options.output}: {len(report.written)} files")
    for failure in report.failures:
        print(f"adios: {failure.id}: {failure.reason}", file=sys.stderr)
    return 1 if report.failures else 0


def _data(options: argparse.Namespace) -> int:
    from adios_zoo.sources.describe import describe

    for line in describe(options.source, download=options.download):
        print(line)
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from adios_zoo.train.loop import pretrain
    from adios_zoo.train.recipe import read_recipe

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
    if options.onnx:
        _export_onnx(f"local-dir:{folder}", folder)
    print(folder)
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from adios_zoo.train import recipe_files

    if options.recipe is None:
        print(recipe_files.recipe_table())
        return 0
    from adios_zoo.train.recipe import read_recipe

    print(recipe_files.to_yaml(read_recipe(options.recipe, options.settings).to_dict()), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    from adios_zoo.train.report import write_report

    print(write_report(options.run_folder, options.output))
    return 0


def _bench_train(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from adios_zoo.train import bench

    settings = ("size", "batch", "encoder", "masker_base", "device", "precision", "threads")
    case = bench.Case(**{name: getattr(options, name) for name in settings})
    if options.method:
        game = {"method": options.method, "slots": options.slots, "mask_use": options.mask_use}
        cases = [dataclasses.replace(case, **game, terms=tuple(options.terms))]
    else:
        cases = bench.standard_cases(case)
    figures = [bench.measure(c, rounds=options.rounds) for c in tqdm(cases, unit="case", leave=False, disable=None)]
    print(bench.table(figures))
    if options.json:
        from adios_zoo.files import write_text

        write_text(options.json, json.dumps([f.to_dict() for f in figures], indent=2) + "\n")
    return 0


def _knn(options: argparse.Namespace) -> int:
    from adios_zoo.train.probe.evaluate import evaluate_knn

    result = evaluate_knn(
        options.model,
        options.train,
        options.test,
        train_images=options.train_images,
        test_images=options.test_images,
        k=options.k,
        temperature=options.temperature,
        distance=options.distance,
        random_seed=options.seed if options.random else None,
        device=options.device,
        progress=not options.quiet,
    )
    print(f"k-NN top-1 {result['acc1']:.2f} %, top-5 {result['acc5']:.2f} %")
    if options.json:
        from adios_zoo.files import write_text

        write_text(options.json, json.dumps(result, indent=2) + "\n")
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.layout == "web":
        return _export_web(options)
    if options.gallery or options.runtime:
        from adios_zoo.errors import ConfigError

        raise ConfigError("--gallery and --runtime belong to --layout web.")
    if options.layout == "triton":
        return _layout(options)
    from adios_zoo.export.precision import plan_precisions, write_precisions
    from adios_zoo.model_card import onnx_encoder

    plan = plan_precisions(options.model, options.precision, calibration=options.calibration, holdout=options.holdout)
    _export_onnx(options.model, options.output)
    outcomes = write_precisions(plan, options.output, force=options.force, progress=not options.quiet)
    for precision, outcome in outcomes.items():
        facts = outcome.facts
        knn = "" if facts.knn is None else f", k-NN {facts.knn:.2f} % (float32 {facts.knn_fp32:.2f} %)"
        print(f"{options.output / onnx_encoder(precision)}: median cosine to float32 {facts.cosine:.5f}{knn}")
        if outcome.fault:
            verdict = "It was written by force." if outcome.written else "It was not written; --force writes it."
            print(f"adios: {precision}: {outcome.fault} {verdict}", file=sys.stderr)
    return 0 if all(outcome.written for outcome in outcomes.values()) else 1


def _export_onnx(model: str, folder: Path) -> None:
    from adios_zoo.export.to_onnx import export
    from adios_zoo.model_card import ONNX_FOLDER

    for name, difference in export(model, folder).items():
        print(f"{folder / ONNX_FOLDER / name}.onnx: largest difference from torch {difference:.1e}")


def _layout(options: argparse.Namespace) -> int:
    from adios_zoo.errors import ConfigError
    from adios_zoo.export.triton import write_layout

    if options.precision != ["fp32"]:
        raise ConfigError(
            "A layout takes the precisions that a model folder has: write them by `adios export MODEL -o FOLDER "
            "--precision ...`, then lay out FOLDER."
        )
    for path in write_layout(options.model, options.output):
        print(path)
    return 0


def _bench_extract(options: argparse.Namespace) -> int:
    import dataclasses

    from adios_zoo.export import bench
    from adios_zoo.files import write_text

    if options.startup:
        seconds = bench.startup(options.model, _images(options), rounds=options.rounds)
        for backend, value in seconds.items():
            print(f"{backend}: {value:.2f} s from process start to the first feature")
        figures: object = seconds
    else:
        rows = bench.bench_extract(
            options.model,
            _images(options),
            count=options.images_a_round,
            rounds=options.rounds,
            megapixels=options.megapixels,
            device=options.device,
            progress=(lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr)),
        )
        print(bench.report(rows))
        figures = [dataclasses.asdict(row) for row in rows]
    if options.json:
        write_text(options.json, json.dumps(figures, indent=2) + "\n")
    return 0


def _export_web(options: argparse.Namespace) -> int:
    from adios_zoo.export.web import export_web

    folder = export_web(options.model, options.output, gallery=options.gallery, runtime=options.runtime)
    print(f"{folder}: serve it with `python -m http.server --directory {folder}` and open http://localhost:8000/")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from adios_zoo.export.verify import verify

    checks = verify(options.model)
    for check in checks:
        verdict = {True: "pass", False: "FAIL", None: "skip"}[check.passed]
        print(f"{verdict}  {check.what}: {check.note}")
    failed = [check for check in checks if check.passed is False]
    print(f"{options.model}: {f'{len(failed)} of {len(checks)} checks failed' if failed else 'verified'}")
    return 1 if failed else 0


def _convert(options: argparse.Namespace) -> int:
    from adios_zoo.official import convert

    card = convert(options.release, options.output, heads=options.heads)
    if options.onnx:
        _export_onnx(f"local-dir:{options.output}", options.output)
    print(f"{card.name}: {options.output}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from adios_zoo.publish import publish

    if options.onnx:
        _export_onnx(f"local-dir:{options.folder}", options.folder)
    done = publish(
        options.folder,
        options.repo,
        private=options.private,
        revision=options.revision,
        dry_run=options.dry_run,
        message=options.message,
    )
    for name, size in done.files.items():
        print(f"{size:>12}  {name}")
    print(done.address or f"Nothing was sent; without --dry-run these go to {done.repo} in one commit.")
    return 0


def _cache(options: argparse.Namespace) -> int:
    from adios_zoo import cache

    if options.action == "list":
        print(cache.table())
        return 0
    if bool(options.names) == options.all:
        raise ConfigError("Say what to remove: `adios cache remove NAME ...`, or --all.")
    for entry in cache.remove(options.names or [e.name for e in cache.entries()]):
        print(f"removed {entry.path}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from adios_zoo.demo import run_demo

    run_demo(options.output, options.model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
