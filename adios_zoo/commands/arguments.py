"""What the commands share: how they are added, and the arguments that several take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adios_zoo.sources.columns import Asked, with_columns
from adios_zoo.zoo.registry import DEFAULT_MODEL

SOURCE = (
    "folder, glob, .txt list or image file, parquet:GLOB, tar:GLOB, hf:ORG/NAME, torchvision:NAME or an address such "
    "as s3://BUCKET/FOLDER; see docs/data.md"
)
MODEL = "name, model folder, local-dir:PATH or hf-hub:ORG/NAME"

_GROUPS = {
    "bench": ("WHAT", "Measure this machine's speed, against the plain way."),
    "evaluate": ("PROTOCOL", "Measure what an encoder is worth."),
    "evaluate robust": ("WHAT", "accuracy on images that are hidden in part, corrupted or on other backgrounds"),
}


class Commands:
    """The commands of a parser; ``bench train`` is the command ``train`` of the group ``bench``."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
        self._groups: dict[str, Any] = {}
        self._common = argparse.ArgumentParser(add_help=False)
        self._common.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add(self, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """The parser of a new command, which ``run`` carries out."""
        group, _, name = name.rpartition(" ")
        place = self._group(group) if group else self._commands
        parser: argparse.ArgumentParser = place.add_parser(name, parents=[self._common], help=text, description=text)
        parser.set_defaults(run=run)
        return parser

    def _group(self, name: str) -> Any:
        if name not in self._groups:
            metavar, text = _GROUPS[name]
            outer, _, last = name.rpartition(" ")
            place = self._group(outer) if outer else self._commands
            parser = place.add_parser(last, help=text, description=text)
            self._groups[name] = parser.add_subparsers(required=True, metavar=metavar)
        return self._groups[name]


def add_images(parser: argparse.ArgumentParser, *, output: str) -> None:
    """Images to read, and where to write."""
    parser.add_argument("images", nargs="+", help=SOURCE)
    add_columns(parser, "images")
    parser.add_argument("-o", "--output", type=Path, required=True, help=output)


def add_columns(parser: argparse.ArgumentParser, *sources: str) -> None:
    """The columns of tables; ``sources`` are the arguments that hold a SOURCE, see :func:`name_columns`."""
    for what in ("image", "label"):
        text = f"column of parquet: and hf: that holds the {what}s; default: the only one that can be meant"
        parser.add_argument(f"--{what}-column", metavar="COLUMN", help=text)
    parser.set_defaults(sources=sources)


def name_columns(options: argparse.Namespace) -> None:
    """Write the columns of the options into the SOURCEs of a call, where all who open them find them.

    Raises ConfigError for a SOURCE that has no columns.
    """
    for name in getattr(options, "sources", ()):
        asked, given = Asked(options.image_column, options.label_column), getattr(options, name)
        if isinstance(given, list):
            setattr(options, name, [with_columns(spec, asked) for spec in given])
        elif given:
            setattr(options, name, with_columns(given, asked))


def add_model(parser: argparse.ArgumentParser, *, more: str = "") -> None:
    """The model, the bundled one unless another is named."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"{MODEL}{more}; default: {DEFAULT_MODEL}")


def add_onnx(parser: argparse.ArgumentParser) -> None:
    """Whether to export as well."""
    parser.add_argument("--onnx", action="store_true", help="write the model's ONNX files too, as `adios export` does")


def add_json(parser: argparse.ArgumentParser, what: str = "the figures") -> None:
    """A file for the figures, see :func:`write_json`."""
    parser.add_argument("--json", type=Path, help=f"write {what} to this file")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Whether to be silent meanwhile."""
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def count_or_auto(text: str) -> int | str:
    """A whole number or ``auto``."""
    return text if text == "auto" else int(text)


def images_of(options: argparse.Namespace) -> str | list[str]:
    """The images of a call: one path that does not exist is a mistake in it, one of many is a row that fails."""
    return options.images[0] if len(options.images) == 1 else list(options.images)


def write_json(path: Path | None, figures: object) -> None:
    """Write figures to the file of ``--json``, if one was given."""
    if path is not None:
        from adios_zoo.files import write_text

        write_text(path, json.dumps(figures, indent=2) + "\n")
