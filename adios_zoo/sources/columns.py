"""The columns of a table: which one holds the images, which one the labels, and what lies in a cell.

``#image=COLUMN`` and ``#label=COLUMN`` at the end of a SOURCE name them; the options ``--image-column`` and
``--label-column`` of the commands write just that.  Without them a column is taken where only one can be meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import read_encoded
from adios_zoo.sources.places import is_address, read_part
from adios_zoo.telling import tell

if TYPE_CHECKING:
    import pyarrow as pa

MASK = "mask"
_SUFFIX = re.compile(r"(?P<place>.*?)(#image=(?P<image>[^#]+))?(#label=(?P<label>[^#]+))?", re.DOTALL)
_KINDS = ("parquet:", "hf:", "hf-stream:")
_NAME_IT = "name the right one by --image-column, or #image=COLUMN at the end of the SOURCE"
# Names that tools give to a column of images; capitals do not matter.
_IMAGE_NAMES = {
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pixel_values"),
    *("jpg", "jpeg", "png", "webp", "bytes", "content", "data"),
    *("image_bytes", "img_bytes", "image_data", "image_content", "image_file", "jpg_bytes", "image_jpg"),
}


class Asked(NamedTuple):
    """Columns that the SOURCE names; ``None`` where it leaves them to be found."""

    image: str | None = None
    label: str | None = None


def split_columns(place: str) -> tuple[str, Asked]:
    """Part the columns that are named at the end of a SOURCE from the rest of it."""
    found = _SUFFIX.fullmatch(place)
    assert found is not None  # all of it may be the place
    return found["place"], Asked(found["image"], found["label"])


def with_columns(spec: str, asked: Asked) -> str:
    """The SOURCE with the columns named at its end.

    Raises ConfigError for a SOURCE that is no table.
    """
    if asked == Asked():
        return spec
    place, known = split_columns(spec)
    if not place.startswith(_KINDS):
        if not place.lower().endswith(".parquet"):
            raise ConfigError(f"{spec} has no columns; --image-column and --label-column are for parquet: and hf:.")
        place = f"parquet:{place}"
    image, label = asked.image or known.image, asked.label or known.label
    return place + (f"#image={image}" if image else "") + (f"#label={label}" if label else "")


def image_column(what: str, schema: pa.Schema, asked: str | None = None) -> str:
    """The column that holds the images.

    Args:
        what: names the table in messages.
        schema: its columns.
        asked: the column that the user names.

    Raises:
        ConfigError: the user's column is not there.
        DataError: it holds no images, or no column does, or one of several may be meant.
    """
    usable: list[str] = [field.name for field in schema if field.name != MASK and is_encoded(field.type)]
    if asked is not None:
        _check_there(what, schema, asked, "--image-column")
        if asked not in usable and asked != MASK:
            raise DataError(_why_not(what, schema.field(asked)))
        return asked
    facts = column_facts(schema)
    declared = [name for name, fact in facts.items() if fact.get("_type") == "Image" and name != MASK]
    for name in ("image", *declared, "img"):
        if name in usable:
            return name
    named = [name for name in usable if name.lower() in _IMAGE_NAMES]
    if len(named) == 1:
        return named[0]
    if len(usable) > 1:
        raise DataError(f"{what} may have its images in {' or '.join(named or usable)}; {_NAME_IT}.")
    meant = [name for name in schema.names if name in declared or name.lower() in _IMAGE_NAMES]
    if usable and not meant:
        return usable[0]
    for name in meant:
        raise DataError(_why_not(what, schema.field(name)) + (f" Or {_NAME_IT}." if usable else ""))
    raise DataError(f"{what} has no column of images (it has {', '.join(schema.names)}).")


def label_column(what: str, schema: pa.Schema, asked: str | None = None) -> str | None:
    """The column that holds the labels, if there is one; a column ``label`` that is none is told of on stderr.

    Arguments and errors are those of :func:`image_column`.
    """
    if asked is not None:
        _check_there(what, schema, asked, "--label-column")
        if not _holds_labels(schema.field(asked).type):
            raise DataError(f"{what}: its column {asked!r} holds {_kind(schema.field(asked).type)}, not labels.")
        return asked
    classes = [name for name, fact in column_facts(schema).items() if fact.get("_type") == "ClassLabel"]
    there = [name for name in ("label", *classes) if name in schema.names]
    for name in there:
        if _holds_labels(schema.field(name).type):
            return name
    for name in there:
        tell_ignored(what, name, f"holds {_kind(schema.field(name).type)}")
    return None


@cache
def tell_ignored(what: str, column: str, why: str) -> None:
    """Say on stderr, once, that a column is not taken for labels."""
    tell(f"adios: {what}: its column {column!r} {why} and is ignored; the images have no labels.")


def column_facts(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What the datasets library wrote about the columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def is_encoded(kind: pa.DataType) -> bool:
    """Whether cells of this type can hold encoded images."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0 and is_encoded(kind.field("bytes").type))
    if pa.types.is_dictionary(kind):
        return is_encoded(kind.value_type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def content(cell: Any, folder: str = "") -> bytes | None:
    """The encoded image of a cell: its bytes, else what its path or address names; ``None`` where it has neither.

    Args:
        cell: bytes, or a record with ``bytes`` and ``path``.
        folder: what a path that is not absolute is relative to.

    Raises:
        DataError: the file cannot be read.
    """
    if not isinstance(cell, Mapping):
        return cell if isinstance(cell, bytes) else None
    found, path = cell.get("bytes"), cell.get("path")
    if found is not None or not path:
        return found if isinstance(found, bytes) else None
    place = path if is_address(path) or Path(path).is_absolute() else f"{folder}{path}"
    return read_part(place) if is_address(place) else read_encoded(place)


def lies_elsewhere(cell: Any) -> bool:
    """Whether a cell names a file instead of holding it."""
    return isinstance(cell, Mapping) and cell.get("bytes") is None and bool(cell.get("path"))


def _check_there(what: str, schema: pa.Schema, asked: str, option: str) -> None:
    names: Collection[str] = schema.names
    if asked not in names:
        raise ConfigError(f"{what} has no column {asked!r} for {option}; it has {', '.join(names)}.")


def _holds_labels(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_type = pa.types
    if is_type.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    plain = is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_boolean(kind) or is_type.is_null(kind)
    return bool(plain or is_text(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether cells of this type are text."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kind(kind: pa.DataType) -> str:
    import pyarrow as pa

    if is_text(kind):
        return "text"
    if pa.types.is_nested(kind) and not pa.types.is_struct(kind):
        return "lists"
    return "records" if pa.types.is_struct(kind) else f"{kind} values"


def _why_not(what: str, field: pa.Field) -> str:
    """One sentence on a column that seems to be that of the images, and cannot be."""
    kind = _kind(field.type)
    remedy = {
        "text": "write the files' bytes into it, decoding base64; paths can be read as a .txt list, one a line",
        "lists": "write a row for each image",
        "records": "call the one with the encoded image 'bytes', as the datasets library does",
    }.get(kind, "write the bytes of the image files into it")
    return f"{what}: its column {field.name!r} holds {kind}, not the bytes of one image file a row; {remedy}."
