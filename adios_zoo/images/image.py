"""Images from wherever they lie: named, decoded to upright RGB, or said why they cannot be read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from adios_zoo.errors import DataError
from adios_zoo.images.opening import open_image
from adios_zoo.images.rgb import to_rgb

PathLike: TypeAlias = "str | os.PathLike[str]"


class ImageError(DataError):
    """One image cannot be read: ``id`` says which, ``reason`` why."""

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"{id}: {reason}")
        self.id = id
        self.reason = reason


@dataclass(frozen=True)
class ImageRef:
    """An image not yet decoded.

    Attributes:
        id: its name in results, unique and stable within its source.
        read: gives the image in upright RGB, or raises ImageError.
        encoded: gives the undecoded content of its file (JPEG, PNG, ...), or raises ImageError; ``None`` for an
            image that exists as pixels alone.
        label: index of its class, -1 where unknown.
        mask: gives the map of its objects (mode L: 0 the background, any other value an object), or raises
            ImageError; ``None`` where its source has no masks.
        boxes: gives left, top, width and height in pixels of each of its objects, or raises ImageError; ``None`` where
            its source has no boxes.
    """

    id: str
    read: Callable[[], Image.Image]
    encoded: Callable[[], bytes] | None = None
    label: int = -1
    mask: Callable[[], Image.Image] | None = None
    boxes: Callable[[], list[list[float]]] | None = None


def path_id(path: PathLike) -> str:
    """Name ``path`` in results: its own text, with line breaks and bytes that are not UTF-8 as escapes.

    Every output format can hold such a name, and a line of a text file is always one name.
    """
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\r", "\\r").replace("\n", "\\n")


def path_of(id: str) -> Path:
    """The path that a name stands for which is proper text, also where the system's own names are ASCII."""
    try:
        os.fsencode(id)
    except UnicodeEncodeError:
        id = os.fsdecode(id.encode("utf-8", "surrogateescape"))
    return Path(id)


def file_ref(path: str, label: int = -1) -> ImageRef:
    """Refer to the image file ``path``."""
    name, place = path_id(path), path_of(path)
    return ImageRef(name, partial(read_image, place), partial(read_encoded, place), label)


def encoded_ref(id: str, data: bytes | None, label: int = -1) -> ImageRef:
    """Refer to an image whose undecoded content is in memory; ``None`` where it has none."""
    return ImageRef(id, partial(decode_image, data, id), partial(_content, data, id), label)


def fetched_ref(id: str, fetch: Callable[[], bytes | None], label: int = -1) -> ImageRef:
    """Refer to an image whose undecoded content ``fetch`` gives; what it raises becomes an ImageError."""
    encoded = partial(_fetched, fetch, id)
    return ImageRef(id, partial(_decode_fetched, encoded, id), encoded, label)


def pixels_ref(id: str, pixels: Any, label: int = -1) -> ImageRef:
    """Refer to a PIL image or an array; anything else is an ImageError when it is read."""
    return ImageRef(id, partial(_in_memory, id, pixels), None, label)


def read_image(path: PathLike) -> Image.Image:
    """Decode the image file ``path`` (the first frame of an animation) to upright RGB, 8 bits a channel.

    Raises ImageError, a DataError, whose reason is one sentence, for a file that is missing, empty, not an
    image, truncated, damaged, or above Pillow's limit for decompression bombs.  Which formats are read, and
    what is set in Pillow for it, says :mod:`adios_zoo.images.opening`.
    """
    with _explained(path_id(path)):
        _check_file(path)
        return _decoded(path)


def read_encoded(path: PathLike) -> bytes:
    """Return the undecoded content of the image file ``path``; raises ImageError as :func:`read_image`."""
    with _explained(path_id(path)):
        _check_file(path)
        return Path(path).read_bytes()


def decode_image(data: bytes | None, id: str) -> Image.Image:
    """Decode the content of an image file as :func:`read_image` does; ``id`` names it in an ImageError."""
    with _explained(id):
        return _decoded(io.BytesIO(_content(data, id)))


def fetch_mask(id: str, fetch: Callable[[], bytes | None]) -> Image.Image:
    """Decode the map of an image's objects to mode L, its values as stored (a palette's numbers, not its colours).

    Raises ImageError, under the image's ``id``, for what is no such map, and for whatever ``fetch`` raises.
    """
    with _explained(id, "its mask: "), open_image(io.BytesIO(_content(fetch(), id))) as image:
        if image.mode not in ("1", "L", "P") or image.format == "JPEG":  # which blurs numbers into others
            raise DataError(f"a {image.format} of mode {image.mode}, not a PNG with one number of 8 bits an object")
        return image.convert("L") if image.mode == "1" else Image.fromarray(np.asarray(image))


def _fetched(fetch: Callable[[], bytes | None], id: str) -> bytes:
    with _explained(id):
        return _content(fetch(), id)


def _decode_fetched(encoded: Callable[[], bytes], id: str) -> Image.Image:
    return decode_image(encoded(), id)


def _in_memory(id: str, pixels: Any) -> Image.Image:
    with _explained(id):  # a PIL image may still be undecoded, and so fail as a file does
        return to_rgb(pixels if isinstance(pixels, Image.Image) else _from_array(pixels))


@contextmanager
def _explained(id: str, what: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise ImageError(id, what + _reason(error)) from error


def _check_file(path: PathLike) -> None:
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        try:
            os.scandir(path).close()
        except OSError as error:
            raise DataError(f"a folder that cannot be listed ({error.strerror})") from error
        raise DataError("a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise DataError("not a regular file")
    if status.st_size == 0:
        raise DataError("the file is empty (0 bytes)")


def _decoded(file: PathLike | io.BytesIO) -> Image.Image:
    with open_image(file) as image:
        return to_rgb(image)


def _content(data: bytes | None, id: str) -> bytes:
    if not data:
        raise ImageError(id, "it has no content" if data is None else "the file is empty (0 bytes)")
    return data


def _from_array(array: NDArray[Any]) -> Image.Image:
    if not isinstance(array, np.ndarray):
        raise DataError(f"a {type(array).__name__} is no image: pass a path, a PIL image or a numpy array")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.size and ((array.dtype == np.uint8 and (array.ndim == 2 or colour)) or _is_grey16(array)):
        return Image.fromarray(np.ascontiguousarray(array))
    raise DataError(
        f"an array of {array.dtype} with shape {array.shape} is no image: "
        "pass uint8 of shape (H, W), (H, W, 3) or (H, W, 4), or uint16 of shape (H, W)"
    )


def _is_grey16(array: NDArray[Any]) -> bool:
    return array.dtype == np.uint16 and array.ndim == 2


def _reason(error: Exception) -> str:
    """Say in one sentence, without the file's name, why an image cannot be read."""
    detail = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImageError):
        return error.reason
    if isinstance(error, DataError):
        return detail
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a format that is not read here"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large to decode safely: {detail}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror or detail}"
    return f"truncated or damaged: {detail}"
