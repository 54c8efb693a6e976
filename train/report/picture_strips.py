"""The mask pictures of a run as HTML: how the masks came about, and the last ones one by one."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from adios_zoo.pictures.draw import slot_colour

from .pictures import Picture

# What is shown at most.
_MOST_ROWS, _MOST_SLOTS = 8, 8
_TILE = 112  # pixels


def strip(pictures: list[Picture]) -> str:
    """The same images in rows, epochs in columns."""
    if not pictures:
        return ""
    rows = range(min(pictures[-1].images, _MOST_ROWS))
    heads = ["image", *(f"{p.epoch}" for p in pictures)]
    cells = []
    for row in rows:
        cells.append(_image(pictures[-1], row, 0, f"Image {row + 1}"))
        cells += [_image(p, row, 1, f"All masks of image {row + 1} after {p.epoch} epochs") for p in pictures]
    slots = pictures[-1].slots
    key = "".join(f'<li><i style="background:{slot_colour(k)}"></i>mask {k + 1}</li>' for k in range(slots))
    return (
        "<p>All masks over each image, every mask in its colour; columns are epochs.</p>"
        f'<ul class="legend">{key}</ul>{_grid(heads, cells)}'
    )


def detail(pictures: list[Picture]) -> str:
    """Every mask of the last picture by itself."""
    if not pictures:
        return ""
    last = pictures[-1]
    slots = min(last.slots, _MOST_SLOTS)
    heads = ["image", "all", *(f"mask {k + 1}" for k in range(slots))]
    cells = []
    for row in range(min(last.images, _MOST_ROWS)):
        names = ["Image", "All masks of image", *(f"Mask {k + 1} of image" for k in range(slots))]
        cells += [_image(last, row, column, f"{name} {row + 1}") for column, name in enumerate(names)]
    more = f" The first {slots} of {last.slots}." if last.slots > slots else ""
    return f"<p>After {last.epoch} epochs; colour is what a mask hides.{more}</p>{_grid(heads, cells)}"


def _grid(heads: list[str], cells: list[str]) -> str:
    return (
        f'<div class="scroll"><div class="grid" style="--columns:{len(heads)}">'
        + "".join(f"<span>{head}</span>" for head in heads)
        + "".join(cells)
        + "</div></div>"
    )


def _image(picture: Picture, row: int, column: int, text: str) -> str:
    file = io.BytesIO()
    tile = picture.tile(row, column).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    tile.save(file, format="JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(text)}" width="{_TILE}" height="{_TILE}" src="data:image/jpeg;base64,{data}">'
