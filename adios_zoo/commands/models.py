"""Commands about models: the zoo, the cache, the Hub."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from adios_zoo.commands.arguments import Commands, add_model, add_onnx
from adios_zoo.commands.exporting import export_onnx
from adios_zoo.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("list", _list, "Name the models of the zoo.")
    sub.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as 'resnet18_*'")
    sub.add_argument("--json", action="store_true", help="print the cards as JSON")

    sub = commands.add("show", _show, "Print the card of a model.")
    sub.add_argument("name")
    sub.add_argument("--json", action="store_true", help="print the card as JSON")

    sub = commands.add("convert", _convert, "Turn a release of the authors into a model folder.")
    sub.add_argument("release", type=Path, help="the published .zip, or the folder that it unpacks to")
    sub.add_argument("-o", "--output", type=Path, required=True, help="model folder; absent or empty")
    sub.add_argument("--heads", action="store_true", help="write projector and predictor too")
    add_onnx(sub)

    sub = commands.add("publish", _publish, "Put a model folder on the Hugging Face Hub.")
    sub.add_argument("folder", type=Path, help="model folder")
    sub.add_argument("--repo", required=True, metavar="ORG/NAME", help="made if it is not there")
    sub.add_argument("--private", action="store_true", help="make it a private one")
    sub.add_argument("--revision", help="branch that takes the commit; default: the main one")
    sub.add_argument("--message", default="Upload an ADIOS model", help="of the commit")
    sub.add_argument("--dry-run", action="store_true", help="only show what would go")
    add_onnx(sub)

    sub = commands.add("cache", _cache, "List or remove the models that were fetched.")
    sub.add_argument("action", nargs="?", choices=["list", "remove"], default="list", help="default: list")
    sub.add_argument("names", nargs="*", metavar="NAME", help="what to remove")
    sub.add_argument("--all", action="store_true", help="remove everything")

    sub = commands.add("demo", _demo, "Features, neighbours and masks of sample photographs, without a network.")
    sub.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder for the pictures; default: demo")
    add_model(sub)


def _list(options: argparse.Namespace) -> int:
    from adios_zoo.zoo import registry

    names = registry.list_models(options.pattern)
    if options.json:
        print(json.dumps({name: registry.card(name).to_dict() for name in names}, indent=2))
        return 0
    print(registry.table(names))
    return 0


def _show(options: argparse.Namespace) -> int:
    from adios_zoo.zoo import registry

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


def _convert(options: argparse.Namespace) -> int:
    from adios_zoo.official.convert import convert
    from adios_zoo.zoo import registry

    card = convert(options.release, options.output, known=registry.cards(), heads=options.heads)
    if options.onnx:
        export_onnx(f"local-dir:{options.output}", options.output)
    print(f"{card.name}: {options.output}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from adios_zoo.zoo.publish import publish

    if options.onnx:
        export_onnx(f"local-dir:{options.folder}", options.folder)
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
    from adios_zoo.zoo import cache

    if options.action == "list":
        print(cache.table())
        return 0
    if bool(options.names) == options.all:
        raise ConfigError("Say what to remove: `adios cache remove NAME ...`, or --all.")
    for entry in cache.remove(options.names or [e.name for e in cache.entries()]):
        print(f"removed {entry.path}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from adios_zoo.pictures.demo import run_demo

    run_demo(options.output, options.model)
    return 0
