"""Puts a trained model into the package: half-precision weights, a card, its figures.

``python -m adios_zoo.train.bundle RUN/model --train "parquet:$TINY_IMAGENET/train-*.parquet" --test
"parquet:$TINY_IMAGENET/valid.parquet" --alias resnet18_tin200`` in a checkout, then commit what it wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from adios_zoo import registry
from adios_zoo.files import write_text
from adios_zoo.model import load_model
from adios_zoo.model_card import CONFIG, README, Card, Figure, card_of_folder

from .probe.knn import evaluate_knn
from .probe.linear import evaluate_linear
from .probe.task import Task

LICENSE = "MIT"  # of this repository
PACKAGE = Path(registry.__file__).parent


def bundle(
    folder: Path, *, train: str, test: str, shown: tuple[str, str], aliases: tuple[str, ...], package: Path = PACKAGE
) -> Card:
    """Copy a model folder into ``package`` with its figures, beside those of a random initialisation.

    k-NN and linear probe (its mean over three seeds) of the standard protocol, on all images.

    Args:
        folder: of the trained model.
        train: labelled images to learn from, see :mod:`adios_zoo.sources`.
        test: labelled images that are judged.
        shown: both as the figures' command should name them.
        aliases: further names in the zoo.
        package: where ``weights/`` and ``cards/`` are.
    """
    model = load_model(folder)
    weights = package / "weights" / model.card.name
    model.save_pretrained(weights, dtype=torch.float16)
    sources = "".join(f' {option} "{source}"' for option, source in zip(("--train", "--test"), shown, strict=True))
    commands = [f"adios evaluate {how} --model {(*aliases, model.card.name)[0]}{sources}" for how in ("knn", "linear")]
    trained, random = (_top1(Task(train=train, test=test, model=str(weights), random_seed=seed)) for seed in (None, 0))
    figures: list[Figure] = []
    for name, command, ours, theirs in zip(
        ("k-NN top-1", "linear probe top-1"), commands, trained, random, strict=True
    ):
        figures += [
            Figure(name, round(ours, 2), "%", command),
            Figure(f"{name}, random initialisation", round(theirs, 2), "%", f"{command} --random"),
            Figure(f"{name}, margin over random", round(ours - theirs, 2), "points", command),
        ]
    card = card_of_folder(weights).replace(origin="bundled", license=LICENSE, aliases=aliases, figures=tuple(figures))
    # In the package the card alone says what it is; config.json and README.md are made from it on saving.
    (weights / CONFIG).unlink()
    (weights / README).unlink()
    write_text(package / "cards" / f"{card.name}.json", json.dumps(card.to_dict(), indent=2) + "\n")
    return card


def _top1(task: Task) -> tuple[float, float]:
    """Top-1 accuracy of k-NN and of the linear probe; the features are computed once."""
    return evaluate_knn(task)["figures"]["acc1"], evaluate_linear(task)["figures"]["acc1"]["mean"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run :func:`bundle` with command-line arguments."""
    parser = argparse.ArgumentParser(description=bundle.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--shown", nargs=2, help="the two sources as the card's commands name them")
    parser.add_argument("--alias", action="append", default=[])
    o = parser.parse_args(arguments)
    shown = tuple(o.shown) if o.shown else (o.train, o.test)
    card = bundle(o.folder, train=o.train, test=o.test, shown=shown, aliases=tuple(o.alias))
    for figure in card.figures:
        print(f"{figure.name}: {figure.value} {figure.unit}   {figure.command}")


if __name__ == "__main__":
    main()
