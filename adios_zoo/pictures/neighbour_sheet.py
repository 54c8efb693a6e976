"""A contact sheet of nearest neighbours: a row for each query, the query first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from adios_zoo.errors import ConfigError
from adios_zoo.files import replacing
from adios_zoo.images.image import ImageError, read_image
from adios_zoo.pictures.page import FAINT, GROUND, HEADING, MARGIN, TITLE, Page
from adios_zoo.search.neighbours import Answer
from adios_zoo.sources.open import open_images

_TILE, _GAP, _NAME = 160, 16, 24
_MOST_ROWS = 200


def write_sheet(path: Path, answers: Sequence[Answer], *, title: str, images: Sequence[str] = ()) -> None:
    """Write the answers as a PNG file.

    Pictures are read from ``images``, what ``adios extract`` was given, or else from the ids as paths; where there
    is none, its tile says so.

    Raises ConfigError for more than 200 queries, DataError if the file cannot be written.
    """
    if len(answers) > _MOST_ROWS:
        raise ConfigError(f"{path}: a sheet shows at most {_MOST_ROWS} queries, and these are {len(answers)}.")
    sheet = neighbour_sheet(answers, _reader(answers, images), title=title)
    with replacing(path) as file:
        sheet.save(file, format="PNG")


def neighbour_sheet(answers: Sequence[Answer], read: Callable[[str], Image.Image], *, title: str) -> Image.Image:
    """Draw the answers; ``read`` gives the picture of an id, or raises ImageError."""
    columns = 1 + max((len(answer.neighbours) for answer in answers), default=0)
    step = HEADING + _TILE + _NAME + _GAP
    page = Page(2 * MARGIN + columns * (_TILE + _GAP) - _GAP, 2 * MARGIN + TITLE + len(answers) * step - _GAP)
    page.title(title, "nearest neighbours by cosine similarity")
    for line, answer in enumerate(answers):
        y = MARGIN + TITLE + line * step
        for column, (id, cosine) in enumerate([(answer.query, None), *answer.neighbours]):
            x = MARGIN + column * (_TILE + _GAP)
            page.tile((x, y), "query" if cosine is None else f"{cosine:.3f}", _thumbnail(read, id))
            page.text((x, y + HEADING + _TILE + 4), Path(id).name or id, 12, FAINT, room=_TILE)
    return page.image


def _thumbnail(read: Callable[[str], Image.Image], id: str) -> Image.Image:
    try:
        picture = read(id)
    except ImageError:
        page = Page(_TILE, _TILE)
        page.text((12, _TILE // 2 - 8), "no picture here", 13, FAINT, room=_TILE - 24)
        return page.image
    return ImageOps.pad(picture, (_TILE, _TILE), Image.Resampling.LANCZOS, color=GROUND)


def _reader(answers: Sequence[Answer], images: Sequence[str]) -> Callable[[str], Image.Image]:
    if not images:
        return read_image
    wanted = {id for answer in answers for id, _ in [(answer.query, 0.0), *answer.neighbours]}
    refs = {ref.id: ref for ref in open_images(list(images)) if ref.id in wanted}
    return lambda id: refs[id].read() if id in refs else read_image(id)
