"""Labels as numbers of classes: those of a column, and texts that stand beside images under their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import DataError

_LONGEST = 1 << 20  # bytes of a label's member


def label_numbers(labels: Any, what: str) -> NDArray[np.int64]:
    """A column of labels as numbers of classes, -1 where there is none (null or NaN).

    Args:
        labels: pyarrow's, of any type.
        what: names the column in messages.

    Raises:
        DataError: they are no whole numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_type = pa.types
    try:
        if is_type.is_floating(labels.type):  # of a table in which some had no label, for one
            numbers = np.asarray(labels.to_numpy(zero_copy_only=False), np.float64)
            numbers = np.where(np.isnan(numbers), -1, numbers)
            if bool((np.abs(numbers) < 2**53).all() and (numbers == np.floor(numbers)).all()):
                return numbers.astype(np.int64)
        elif is_type.is_integer(labels.type) or is_type.is_boolean(labels.type) or is_type.is_null(labels.type):
            return np.asarray(pc.fill_null(labels.cast(pa.int64()), -1).to_numpy(zero_copy_only=False), np.int64)
    except pa.ArrowInvalid:  # beyond 64 bits
        pass
    raise DataError(
        f"{what} holds {labels.type} values that are no whole numbers; put the number of each image's class, from 0."
    )


class Beside:
    """Labels that stand beside images under their names: ``7.cls`` or ``7.json`` for ``7.jpg`` and ``7.left.png``."""

    def __init__(self) -> None:
        self._texts: dict[str, dict[str, str]] = {"cls": {}, "json": {}}

    def put(self, name: str, content: bytes) -> None:
        """Keep the label that a member holds, if there is one in it."""
        stem, _, kind = name.rpartition(".")
        self._texts[kind.lower()][stem] = _label_text(kind.lower(), content)

    def of(self, image: str) -> str:
        """The label of an image; that of the longest name which the image's begins with, up to one of its dots."""
        folder, slash, name = image.rpartition("/")
        while "." in name:
            name = name.rpartition(".")[0]
            for texts in self._texts.values():
                if text := texts.get(folder + slash + name):
                    return text
        return ""


def holds_label(name: str, size: int) -> bool:
    """Whether a member is one that :class:`Beside` reads."""
    return name.rpartition(".")[2].lower() in ("cls", "json") and 0 < size <= _LONGEST


def text_number(label: str) -> int | None:
    """A label as a number of 64 bits, -1 where there is none, None for the name of a class."""
    if not label:
        return -1
    try:
        number = int(label)
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None


def text_numbers(labels: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Labels as numbers, and the names of the classes; there are names where one label at least is no number."""
    numbers = [text_number(label) for label in labels]
    classes: list[str] = []
    if any(number is None for number in numbers):
        classes = sorted({label for label in labels if label})
        number_of = {name: number for number, name in enumerate(classes)}
        numbers = [number_of.get(label, -1) for label in labels]
    return np.array(numbers, np.int64), classes


def _label_text(kind: str, content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    if kind == "cls":
        return text
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):  # brackets within brackets, a million deep
        return ""
    if not isinstance(entries, dict):
        return ""
    found = next((entries[key] for key in ("label", "cls") if entries.get(key) is not None), "")
    return str(found) if isinstance(found, int | str) else ""
