"""The page of results, ``docs/results.md``: from the cards of the bundled models and the record of the comparison.

``python -m adios_zoo.train.release.results`` in a checkout writes it anew, with the masks of a few photographs
that anyone may publish.  With ``--output FOLDER --pictures "parquet:$TINY_IMAGENET/valid.parquet"`` it also draws
masks and nearest neighbours of those images, which are not this project's to publish.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adios_zoo.features.extract_to_file import extract_to_file
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.features.read_file import open_features
from adios_zoo.files import write_text
from adios_zoo.models.card import Card
from adios_zoo.models.card_texts import figures_table
from adios_zoo.pictures.neighbour_sheet import write_sheet
from adios_zoo.search.neighbours import find_neighbours
from adios_zoo.zoo import registry
from adios_zoo.zoo.load import load_model

from ..data.in_memory import load_images
from ..report.pictures import seen_masks, write_picture
from ..study.study import VARIANTS
from ..study.tables import commands, draw, tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
STUDY, PLOT, PHOTOGRAPHS, PAGE = "study.json", "study.svg", "photographs.png", "results.md"
_QUERIES, _NEIGHBOURS = 10, 6
_PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")  # of scikit-image, in the public domain

_INTRODUCTION = """\
# Results

Made by `python -m adios_zoo.train.release.results` from the models' cards and the records of the comparison in
[study.json](study.json). How each figure is measured: [evaluation.md](evaluation.md).

## Models
"""

_STUDY = """\
## Does adversarial masking help?

One encoder is trained with every way of masking, for the same number of images and, separately, for about the same
time, and judged by images that no choice was made by. This is a comparison on a small budget, on two CPU cores: it
says what masking does in the first minutes of training, not what it does in hundreds of epochs.

{setting}

`half hidden`: accuracy of a linear probe, fitted to whole images, on {occluded:,} images, half of each hidden: random
patches of 1/8 of the side, or one centred block. `time an image`: of a training step, over that without masks. `±`:
standard deviation over the seeds.

![k-NN accuracy of every run, and accuracy under occlusion](study.svg)

{tables}

Each run by itself, from the folder of the data:

{commands}

All of them, with figures, tables and the picture: see `adios evaluate study` in [evaluation.md](evaluation.md).
"""

_PICTURES = """\
## Pictures

![masks of photographs](photographs.png)

The masks of `resnet18_tin200` for photographs that come with scikit-image, all in the public domain: {photographs}.
None was trained on. The masker sees 64 pixels.
"""

_VALIDATION = """\
![masks of validation images](masks.png)

![nearest neighbours among the validation images](neighbours.png)
"""

_NO_VALIDATION = """\
The images of Tiny-ImageNet are not ours to publish. This writes the page with the masks of validation images and their
nearest neighbours:
`python -m adios_zoo.train.release.results --output FOLDER --pictures "parquet:$TINY_IMAGENET/valid.parquet"`.
"""


def results_page(study: Mapping[str, Any] | None, *, pictures: bool = False) -> str:
    """The page as Markdown, of the bundled models and, if there is one, a comparison."""
    cards = {card.name: card for card in map(registry.card, registry.list_models()) if card.origin == "bundled"}
    parts = [_INTRODUCTION, *map(_model, cards.values())]
    if study is not None:
        known = {"tables": tables(study).strip(), "commands": commands(study)}
        parts.append(_STUDY.format(setting=_setting(study), occluded=study["data"]["test"]["occluded"], **known))
    parts.append(_PICTURES.format(photographs=", ".join(_PHOTOGRAPHS)))
    return "\n".join([*parts, _VALIDATION if pictures else _NO_VALIDATION])


def _model(card: Card) -> str:
    facts = dict(card.training)
    took = f"{facts['epochs']} epochs of {facts['images']:,} images in {facts['hours']:g} hours ({facts['machine']})"
    took += f", seed {facts['seed']}"
    if start := facts.get("start"):
        took += f", from the weights of {start['model']} (SHA-256 {start['sha256'][:12]}...)"
    return f"### {card.name}\n\n{card.summary}\n\n{took}; code: {facts['code']}.\n\n{figures_table(card)}\n"


def _setting(study: Mapping[str, Any]) -> str:
    recipe, data = study["recipe"], study["data"]
    encoder, fitted = recipe["encoder"], data["train"]["fitted"]
    run = next(run for run in study["runs"] if run["images_seen"])
    name = run["command"].split()[2]
    names = {role: f"{record['images']:,} images of `{record['source']}`" for role, record in data.items()}
    chosen = ", of which the rest chose between variants" if any(r["arm"] in VARIANTS for r in study["runs"]) else ""
    return (
        f"Recipe [{name}](../train/recipes): {encoder['architecture']} {encoder['model_args'] or ''} at "
        f"{recipe['image_size']} px, {recipe['epochs']} epochs of {recipe['images']:,} images, batches of "
        f"{recipe['batch_size']}. Fitted to the first {fitted:,} of {names['train']}{chosen}; judged by "
        f"{names['test']}. Transfer: fitted to {names['transfer_train']}, judged by {names['transfer_test']}. "
        f"Machine: {run['training']['machine']}."
    )


def draw_masks(file: Path, source: str, *, caption: str) -> None:
    """Draw the bundled masker's masks of the first images of a source."""
    loaded = load_model(registry.DEFAULT_MODEL)
    assert loaded.masker is not None  # it has one
    images, masks = seen_masks(loaded.masker, load_images(source, limit=_QUERIES).images, loaded.card)
    title = f"{loaded.card.name} in its last run: {caption}"
    write_picture(file, images, masks, epoch=loaded.card.training["epochs"], caption=title)


def draw_photographs(file: Path) -> None:
    """Draw the masks of photographs that come with scikit-image, which the extra ``evaluate`` brings."""
    from skimage import data, io

    with TemporaryDirectory() as folder:
        for name in _PHOTOGRAPHS:
            io.imsave(Path(folder) / f"{name}.png", getattr(data, name)())
        draw_masks(file, folder, caption="photographs")


def draw_neighbours(file: Path, source: str) -> None:
    """Draw the first images of a source, each beside its nearest neighbours in it."""
    with TemporaryDirectory() as temporary:
        features = Path(temporary) / "features.parquet"
        extract_to_file(source, features, extractor=FeatureExtractor(device="cpu"), progress=False)
        queries = open_features(features).take_ids(list(range(_QUERIES)))
        answers, _ = find_neighbours(queries, features, k=_NEIGHBOURS)
    write_sheet(file, answers, title=registry.DEFAULT_MODEL, images=[source])


def write_page(folder: Path, *, study: Path | None = None, pictures: str | None = None) -> Path:
    """Write the page and its pictures.

    Args:
        folder: where to; made if absent.
        study: the comparison's ``study.json``; ``None`` leaves it out.
        pictures: validation images, see :mod:`adios_zoo.sources`, whose masks and neighbours are drawn too.

    Returns:
        The page's path.
    """
    record = None if study is None else json.loads(study.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    if record is not None:
        draw(record, folder / PLOT)
    draw_photographs(folder / PHOTOGRAPHS)
    if pictures is not None:
        draw_masks(folder / "masks.png", pictures, caption="validation images")
        draw_neighbours(folder / "neighbours.png", pictures)
    write_text(folder / PAGE, results_page(record, pictures=pictures is not None))
    return folder / PAGE


def main(arguments: Sequence[str] | None = None) -> None:
    """Run :func:`write_page` with command-line arguments."""
    parser = argparse.ArgumentParser(description=write_page.__doc__)
    parser.add_argument("-o", "--output", type=Path, default=DOCS)
    parser.add_argument("--study", type=Path, default=DOCS / STUDY)
    parser.add_argument("--pictures", metavar="SOURCE")
    o = parser.parse_args(arguments)
    print(write_page(o.output, study=o.study if o.study.exists() else None, pictures=o.pictures))


if __name__ == "__main__":
    main()
