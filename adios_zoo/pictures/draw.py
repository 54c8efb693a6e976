"""Masks on images: one contact sheet per photograph that shows what each mask takes away.

Left, the photograph and all masks over it in colour; then one column per slot: the mask, what the encoder is
given, and what was hidden from it.  The masker works at the model's size; everything is shown as finely as
the photograph allows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.errors import ConfigError
from adios_zoo.features.journal import Failure
from adios_zoo.files import replacing
from adios_zoo.images.image import ImageError, PathLike, path_of
from adios_zoo.models.preprocess import Transform, crop_start, resized_size
from adios_zoo.pictures.page import FAINT, HEADING, MARGIN, TITLE, Page
from adios_zoo.sources.open import open_images
from adios_zoo.sources.source import Source
from adios_zoo.telling import progress_bar

if TYPE_CHECKING:
    from adios_zoo.models.card import Card
    from adios_zoo.models.model import AdiosModel

Floats = NDArray[np.float32]

# Okabe and Ito's colours, which the colour-blind tell apart; their yellow, too pale on white, is darkened.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#C9B400", "#6B5B95")

# All in pixels.  Two large tiles with their headings are as high as three small ones with theirs.
_TILE, _GAP, _COLUMN_GAP = 224, 20, 12
_FOOTER = 50
_LARGE = (3 * _TILE + HEADING + _GAP) // 2

_LONGEST_NAME = 255  # in bytes

_SEEN, _HIDDEN = "What the encoder sees", "What is hidden from it"
_NOTES = (
    "A mask is a weight between 0 (kept) and 1 (hidden); at every pixel the masks sum to 1.",
    "Hidden parts reach the encoder as the mean colour of its training images.",
)


@dataclass(frozen=True)
class MaskReport:
    """The pictures that :func:`draw_masks` wrote, and for each image that it could not read which and why."""

    written: tuple[Path, ...]
    failures: tuple[Failure, ...]


def draw_masks(
    model: AdiosModel,
    images: PathLike | Sequence[PathLike],
    out_dir: PathLike,
    *,
    save_npy: bool = False,
    progress: bool = True,
) -> MaskReport:
    """Write ``<stem>.png``, a contact sheet, for each image; sub-folders of the source are kept.

    Args:
        model: a model with its masker.
        images: a SOURCE or several, see :mod:`adios_zoo.sources`.
        out_dir: where to write; made if absent.
        save_npy: also write ``<stem>.npy``: the masks, float32, (N, H, W) at the model's size.
        progress: show a progress bar on a terminal.

    Raises:
        DataError: if there are no images, or ``out_dir`` cannot be written.
        ConfigError: if a picture would take the place of one of the images.
    """
    refs = open_images(images)
    # By number, a table's rows are named without being read.
    numbered = (refs[i] for i in range(len(refs))) if isinstance(refs, Source) else refs
    paths = [path_of(ref.id) for ref in numbered]
    targets = _targets(paths, _root(images, paths), Path(out_dir))
    written: list[Path] = []
    failures: list[Failure] = []
    # None: tqdm draws its bar on a terminal only.
    bar = progress_bar(refs, total=len(paths), unit="image", show=None if progress else False)
    for ref, target in zip(bar, targets, strict=True):
        try:
            image = ref.read()
        except ImageError as error:
            failures.append(Failure(error.id, error.reason))
            continue
        masks = predict_masks(model, image)
        side = masks.shape[-1]
        sheet = mask_sheet(
            display_crop(image, model.card, _LARGE),
            masks,
            mean=model.card.mean,
            title=PurePath(ref.id).name,
            caption=f"{model.card.name}  ·  {len(masks)} masks  ·  the model sees {side} x {side} pixels",
        )
        with replacing(target) as file:
            sheet.save(file, format="PNG")
        if save_npy:
            with replacing(target.with_suffix(".npy")) as file:
                np.save(file, masks)
        written.append(target)
    return MaskReport(tuple(written), tuple(failures))


def predict_masks(model: AdiosModel, image: Image.Image, transform: Transform | None = None) -> Floats:
    """Masks of one photograph: (N, H, W) float32 at the model's size, summing to one over N.

    Args:
        model: a model with its masker.
        image: the photograph.
        transform: what the masker is given of it; by default as the card says.
    """
    with torch.inference_mode():
        device = next(model.parameters()).device
        x = (transform or model.transform)(image)
        masks = model.masks(x.unsqueeze(0).to(device))[0]
    return np.asarray(masks.float().cpu().numpy(), np.float32)


def crop_box(width: int, height: int, card: Card) -> tuple[float, float, float, float]:
    """Part of a photograph that the model sees: (left, top, right, bottom) in the photograph's pixels.

    This is the card's transform read backwards; see ``preprocess.py``.
    """
    edges = []
    for pixels, side in zip((width, height), resized_size(card, width, height), strict=True):
        start = crop_start(card, side)
        edges.append((start * pixels / side, (start + card.input_size) * pixels / side))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def display_crop(image: Image.Image, card: Card, size: int) -> Image.Image:
    """What the model sees of ``image``, cut from the photograph itself: RGB, ``size`` x ``size`` pixels."""
    box = crop_box(image.width, image.height, card)
    return image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS, box=box)


def resize_masks(masks: Floats, size: int) -> Floats:
    """Smoothly resized masks: (N, h, w) -> (N, size, size), in [0, 1], summing to one over N."""
    resized = np.stack(
        [
            np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BICUBIC))
            for mask in np.ascontiguousarray(masks, np.float32)
        ]
    )
    # Bicubic overshoots a little at edges, below zero and above one.
    resized = resized.clip(0.0, 1.0)
    return np.asarray(resized / resized.sum(axis=0, keepdims=True), np.float32)


def area_percentages(masks: Floats) -> list[int]:
    """Share of the image that each mask (N, H, W) covers: the mean of its weights, in whole per cent."""
    return [round(100 * float(mask.mean())) for mask in masks]


def cut_out(photo: Floats, mask: Floats, mean: Sequence[float] | Floats) -> Floats:
    """What the encoder is given, in colours: photo (H, W, 3) without mask (H, W), both in [0, 1].

    The mask multiplies the normalised image, where zero is the data set's mean colour, so that is what a
    hidden pixel turns into: ``photo * (1 - mask) + mean * mask``.
    """
    weight = mask[..., None]
    return np.asarray(photo * (1 - weight) + np.asarray(mean, np.float32) * weight, np.float32)


def composite(photo: Floats, masks: Floats) -> Floats:
    """All masks (N, H, W) in their colours over the photo (H, W, 3) in grey: (H, W, 3), in [0, 1]."""
    # The fourth power lets the largest mask of a pixel win, with borders as soft as the masks' own.
    weights = masks**4 / (masks**4).sum(axis=0, keepdims=True)
    colours = np.stack([slot_rgb(k) for k in range(len(masks))])
    paint = np.einsum("nhw,nc->hwc", weights, colours)
    grey = photo @ np.array([0.299, 0.587, 0.114], np.float32)
    # Shading the paint by the photograph keeps its drawing visible without tinting the colours.
    return np.asarray(paint * (0.45 + 0.55 * grey[..., None]) + 0.15 * grey[..., None], np.float32).clip(0, 1)


def mask_sheet(photo: Image.Image, masks: Floats, *, mean: Sequence[float], title: str, caption: str) -> Image.Image:
    """Contact sheet of one photograph and its masks.

    Args:
        photo: the square that the model sees, at any resolution; see :func:`display_crop`.
        masks: (N, h, w) in [0, 1], summing to one over N; resized to the tiles.
        mean: the data set's mean colour, three numbers in [0, 1].
        title: the sheet's title, as a rule the file's name.
        caption: one line below it, as a rule the model's name.
    """
    slots = len(masks)
    grid = MARGIN + _LARGE + _GAP + _COLUMN_GAP
    width = grid + slots * (_TILE + _COLUMN_GAP) - _COLUMN_GAP + MARGIN
    height = MARGIN + TITLE + 3 * (HEADING + _TILE) + 2 * _GAP + _FOOTER + MARGIN
    page = Page(width, height)
    page.title(title, caption)

    top = MARGIN + TITLE
    large = _pixels(photo, _LARGE)
    page.tile((MARGIN, top), "The photograph, as the model sees it", picture_of(large))
    below = top + HEADING + _LARGE + _GAP
    painted = composite(large, resize_masks(masks, _LARGE))
    page.tile((MARGIN, below), "All masks, each in its colour", picture_of(painted))

    small, weights = _pixels(photo, _TILE), resize_masks(masks, _TILE)
    paper = np.ones_like(small)
    row = HEADING + _TILE + _GAP
    for k, (weight, percent) in enumerate(zip(weights, area_percentages(masks), strict=True)):
        x = grid + k * (_TILE + _COLUMN_GAP)
        heading = f"Mask {k + 1}, {percent} % of the area"
        page.tile((x, top), heading, picture_of(cut_out(paper, weight, slot_rgb(k))), slot_colour(k))
        page.tile((x, top + row), _SEEN if k == 0 else "", picture_of(cut_out(small, weight, mean)))
        # On white, not on the mean colour: this row is for the reader, no network is given it.
        page.tile((x, top + 2 * row), _HIDDEN if k == 0 else "", picture_of(cut_out(small, 1 - weight, (1, 1, 1))))
    for line, note in enumerate(_NOTES):
        page.text((MARGIN, height - MARGIN - 20 * (len(_NOTES) - line) + 10), note, 13, FAINT)
    return page.image


def slot_colour(slot: int) -> str:
    """The colour of a slot, from 0, as ``#RRGGBB``; the same in every picture."""
    return _COLOURS[slot % len(_COLOURS)]


def slot_rgb(slot: int) -> Floats:
    """:func:`slot_colour` as three numbers in [0, 1]."""
    colour = slot_colour(slot)
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


def _pixels(photo: Image.Image, size: int) -> Floats:
    square = photo.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(np.asarray(square, np.float32) / 255, np.float32)


def picture_of(pixels: Floats) -> Image.Image:
    """The picture of pixels (H, W, 3) in [0, 1]."""
    return Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8))


def _root(source: PathLike | Sequence[PathLike], paths: Sequence[Path]) -> Path | None:
    """Folder below which the images' own sub-folders are kept; ``None`` of images on several drives of Windows."""
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        return _absolute(Path(source))
    try:
        return Path(os.path.commonpath([_absolute(path).parent for path in paths]))
    except ValueError:
        return None


def _absolute(path: Path) -> Path:
    # Not resolve(): a linked photograph keeps the name and the folder that the user sees.
    return Path(os.path.normpath(Path.cwd() / path))


def _targets(paths: Sequence[Path], root: Path | None, out_dir: Path) -> list[Path]:
    """One picture's path for each image; no two alike, on a file system that ignores case either."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        below = _absolute(path).relative_to(root) if root else Path(path.name)
        # What follows the dot in the name of a table's row, such as a.parquet[3], is no image's suffix.
        first = below if below.name.endswith("]") else below.with_suffix("")
        name = _fitting(first, ".png")
        copy = 1
        while str(name).lower() in taken:
            copy += 1
            name = _fitting(first, f"-{copy}.png")
        taken.add(str(name).lower())
        targets.append(out_dir / name)
    overwritten = {_absolute(path) for path in paths} & {_absolute(target) for target in targets}
    if overwritten:
        raise ConfigError(
            f"The mask picture would overwrite the image {min(overwritten)}; choose another output folder."
        )
    return targets


def _fitting(path: Path, ending: str) -> Path:
    """The path with ``ending`` after its name, which is cut where the two are longer than file systems allow."""
    stem = path.name
    while len(os.fsencode(stem + ending)) > _LONGEST_NAME:
        stem = stem[:-1]
    return path.with_name(stem + ending)
