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
from adios_zoo.errors import AdiosError
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
    _add_images(sub, output="features.parquet, .npy or .csv")
    _add_model(sub)
    sub.add_argument("--backend", default="torch", help="torch (default), or onnx for a folder of `adios export`")
    sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    sub.add_argument("--precision", default="fp32", help="fp32 (default), bf16 or fp16")
    sub.add_argument("--batch-size", type=_count_or_auto, default="auto", help="images a batch; default: auto")
    sub.add_argument("--workers", type=_count_or_auto, default="auto", help="decoding threads; default: auto")
    sub.add_argument("--skip-bad", action="store_true", help="exit 0 even if some images could not be read")
    _add_quiet(sub)

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

    sub = command("export", _export, "Write ONNX files of a model, compared with torch.")
    sub.add_argument("model", help=MODEL)
    sub.add_argument("-o", "--output", type=Path, required=True, help="model folder; made if absent")

    sub = command("verify", _verify, "Prove that a model is what its card says, in every backend present.")
    sub.add_argument("model", help=MODEL)

    sub = command("convert", _convert, "Turn a release of the authors into a model folder.")
    sub.add_argument("release", type=Path, help="the published .zip, or the folder that it unpacks to")
    sub.add_argument("-o", "--output", type=Path, required=True, help="model folder; absent or empty")
    sub.add_argument("--heads", action="store_true", help="write projector and predictor too")

    sub = command("publish", _publish, "Put a model folder on the Hugging Face Hub.")
    sub.add_argument("folder", type=Path, help="model folder")
    sub.add_argument("--repo", required=True, metavar="ORG/NAME", help="made if it is not there")
    sub.add_argument("--private", action="store_true", help="make it a private one")
    sub.add_argument("--revision", help="branch that takes the commit; default: the main one")
    sub.add_argument("--message", default="Upload an ADIOS model", help="of the commit")
    sub.add_argument("--dry-run", action="store_true", help="only show what would go")

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
    from adios_zoo.extract import FeatureExtractor, extract_to_file

    extractor = FeatureExtractor(
        options.model,
        backend=options.backend,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        num_workers=options.workers,
    )
    report = extract_to_file(
        _images(options),
        options.output,
        extractor=extractor,
        progress=not options.quiet,
        skip_bad=options.skip_bad,
    )
    print(f"{options.output}: {report.rows} images, {report.dim} features each")
    return report.exit_code


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
    from adios_zoo.export.to_onnx import export
    from adios_zoo.model_card import ONNX_FOLDER

    for name, difference in export(options.model, options.output).items():
        print(f"{options.output / ONNX_FOLDER / name}.onnx: largest difference from torch {difference:.1e}")
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
    print(f"{card.name}: {options.output}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from adios_zoo.publish import publish

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
    from adios_zoo.errors import ConfigError

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
