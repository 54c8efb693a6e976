"""Labels as numbers of classes: those of a column, and texts that stand beside images under their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adios_zoo.errors import DataError
from adios_zoo.sources.columns import is_text

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
        if is_type.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
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


def text_numbers(labels: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers, and the names of the classes; there are names where one label at least is no number."""
    numbers = [text_number(label) for label in labels]
    if any(number is None for number in numbers):
        (by_name,), classes = _by_name([labels])
        return by_name, classes
    return np.array(numbers, np.int64), ()


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


def numbered(columns: Sequence[Any]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Columns of names as numbers of classes, -1 where there is none (null or empty), and the classes in sorted order.

    All columns have one numbering; what is no text in them, of one file among several, is named by its digits.
    """
    import pyarrow as pa

    return _by_name([[value or "" for value in column.cast(pa.string()).to_pylist()] for column in columns])


def _by_name(columns: Sequence[Sequence[str]]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Names of classes as their places in the sorted order of all, -1 for an empty one, and that order."""
    classes = tuple(sorted({name for column in columns for name in column} - {""}))
    number_of = {name: number for number, name in enumerate(classes)}
    return [np.array([number_of.get(name, -1) for name in column], np.int64) for column in columns], classes


def renumbered(
    labels: NDArray[np.int64], names: Sequence[str], source: str, *, known: Sequence[str], known_source: str
) -> NDArray[np.int64]:
    """Labels of one source by the numbers that another gives to the same names; as they are where one names none.

    Raises DataError for a label whose name the other lacks.
    """
    if tuple(names) == tuple(known) or not names or not known:
        return labels
    if len(labels) and int(labels.max()) >= len(names):
        raise DataError(f"{source} names only {len(names)} classes, but the label {labels.max()}.")
    number_of = {name: number for number, name in enumerate(known)}
    missing = [names[label] for label in np.unique(labels).tolist() if label >= 0 and names[label] not in number_of]
    if missing or len(number_of) < len(known) or len(set(names)) < len(names):
        why = f"; the first lacks {missing[0]!r}" if missing else ""
        raise DataError(f"{known_source} and {source} name other classes{why}, so their labels do not match.")
    numbers = np.array([*(number_of.get(name, -1) for name in names), -1], np.int64)  # the last is that of -1
    return numbers[labels]


def are_names(columns: Sequence[Any]) -> bool:
    """Whether labels are names of classes, in any of the columns, and not numbers."""
    return any(is_text(column.type) for column in columns)


def is_plain(kind: Any) -> bool:
    """Whether every value of this type is a label, so that none needs to be looked at to know."""
    import pyarrow as pa

    is_type = pa.types
    whole = is_type.is_integer(kind) and not is_type.is_uint64(kind)
    return bool(whole or is_type.is_boolean(kind) or is_type.is_null(kind))
