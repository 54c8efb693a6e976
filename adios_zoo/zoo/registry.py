"""The zoo: which models there are, by name."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from adios_zoo.errors import CardError, UnknownModelError
from adios_zoo.models.card import Card, parse_card, read_json

DEFAULT_MODEL = "resnet18_tin200"
_ZOO = Path(__file__).resolve().parent


@cache
def cards() -> dict[str, Card]:
    """All cards of the zoo by name and by alias."""
    found: dict[str, Card] = {}
    for path in sorted((_ZOO / "cards").glob("*.json")):
        card = parse_card(read_json(path), what=path.name)
        for name in (card.name, *card.aliases):
            if name in found:
                raise CardError(f"{path.name}: {name} is a name or an alias of {found[name].name} already.")
            found[name] = card
    return found


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo, aliases included, that match a shell pattern; in alphabetical order."""
    return sorted(name for name in cards() if fnmatch.fnmatchcase(name, pattern))


def card(name: str) -> Card:
    """The card of the model ``name``.

    Raises:
        UnknownModelError: with the closest names.
    """
    known = cards()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else "`adios list` names them all."
        raise UnknownModelError(f"There is no model named {name!r}; {hint}")
    return known[name]


def bundled_folder(card: Card) -> Path | None:
    """Where the weights that ship in the package lie; ``None`` if these do not."""
    return _ZOO / "weights" / card.name if card.origin == "bundled" else None


def table(names: Iterable[str]) -> str:
    """The models ``names`` as lines of text, a header first."""
    rows = [("name", "encoder", "pixels", "masks", "weights")]
    for name in names:
        found = card(name)
        also = "" if name == found.name else f" (= {found.name})"
        rows.append(
            (
                name + also,
                found.architecture,
                str(found.input_size),
                str(found.masker.slots if found.masker else 0),
                found.origin,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
