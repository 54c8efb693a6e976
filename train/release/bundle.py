"""Puts a trained model into the package: half-precision weights, a card, its figures.

``python -m adios_zoo.train.release.bundle RUN/model --train "parquet:$TINY_IMAGENET/train-*.parquet" --test
"parquet:$TINY_IMAGENET/valid.parquet" --alias resnet18_tin200`` in a checkout, then commit what it wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adios_zoo.errors import AdiosError
from adios_zoo.files import replacing, write_text
from adios_zoo.models.card import Card, Figure, card_of_folder, parse_card, read_json
from adios_zoo.zoo import registry
from adios_zoo.zoo.load import load_model

from ..evaluate.accuracy.knn import evaluate_knn
from ..evaluate.accuracy.linear import evaluate_linear
from ..evaluate.task import Task

LICENSE = "MIT"  # of this repository
ZOO = Path(registry.__file__).parent


def bundle(
    folder: Path, *, train: str, test: str, shown: tuple[str, str], aliases: tuple[str, ...], zoo: Path = ZOO
) -> Card:
    """Copy a model folder into ``zoo`` with its figures, beside those of a random initialisation.

    k-NN and linear probe (its mean over three seeds) of the standard protocol, on all images.  Nothing in ``zoo``
    changes before they are known, nor if the model's predecessor there has the better k-NN.

    Args:
        folder: of the trained model.
        train: labelled images to learn from, see :mod:`adios_zoo.sources`.
        test: labelled images that are judged.
        shown: both as the figures' command should name them.
        aliases: further names in the zoo.
        zoo: the folder of ``weights/`` and ``cards/``.

    Raises:
        AdiosError: the model that is there has as good a k-NN accuracy, or a better one.
    """
    with TemporaryDirectory() as temporary:
        weights = Path(temporary) / "model"
        load_model(folder).save_pretrained(weights, dtype=torch.float16)
        card = _card(weights, train=train, test=test, shown=shown, aliases=aliases)
        written = zoo / "cards" / f"{card.name}.json"
        _check_better(card, written)
        # In the package the card alone says what it is; config.json and README.md are made from it on saving.
        for name in card.files:
            with replacing(zoo / "weights" / card.name / name) as file:
                file.write((weights / name).read_bytes())
    write_text(written, json.dumps(card.to_dict(), indent=2) + "\n")
    return card


def _card(weights: Path, *, train: str, test: str, shown: tuple[str, str], aliases: tuple[str, ...]) -> Card:
    card = card_of_folder(weights)
    sources = "".join(f' {option} "{source}"' for option, source in zip(("--train", "--test"), shown, strict=True))
    commands = [f"adios evaluate {how} --model {(*aliases, card.name)[0]}{sources}" for how in ("knn", "linear")]
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
    return card.replace(origin="bundled", license=LICENSE, aliases=aliases, figures=tuple(figures))


def _check_better(card: Card, before: Path) -> None:
    """Refuse a card whose first figure, the k-NN accuracy, is not above that of the card before it, if there is one."""
    if not before.exists():
        return
    old, new = parse_card(read_json(before), what=str(before)).figures[0], card.figures[0]
    if new.value <= old.value:
        raise AdiosError(
            f"{old.name} is {new.value} %, not above the {old.value} % of {before}; remove that to replace it."
        )


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
