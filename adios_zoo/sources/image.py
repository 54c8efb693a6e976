"""Images from wherever they lie: named, decoded to upright RGB, or said why they cannot be read."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from adios_zoo.errors import DataError
from adios_zoo.sources.find import PathLike, path_id

ImageInput: TypeAlias = "PathLike | Image.Image | NDArray[Any]"
Images: TypeAlias = "ImageInput | Iterable[ImageInput]"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


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


def open_images(images: Images) -> Iterable[ImageRef]:
    """Name every image of ``images`` without decoding any.

    ``images`` is a SOURCE (see :mod:`adios_zoo.sources`), a path, a PIL image, an array (H,W), (H,W,1), (H,W,3)
    or (H,W,4) of uint8 or (H,W) of uint16, a batch (N,H,W,C) of uint8, or a mixture of all in one iterable.
    Paths are their own id; a PIL image or an array is ``#i``, its position in the iterable from 0.

    Returns a :class:`~adios_zoo.sources.source.Source`, which makes references as they are asked for; where the end is
    not known beforehand, a :class:`~adios_zoo.sources.source.Stream`; for an iterator, one that consumes it lazily.

    Raises DataError when nothing is found.
    """
    from adios_zoo.sources.open import join_streams, open_stream
    from adios_zoo.sources.source import Listed, Stream, join

    if isinstance(images, (str, os.PathLike)):
        return open_stream(images)
    if isinstance(images, Image.Image):
        images = [images]
    elif isinstance(images, np.ndarray):
        images = list(images) if images.ndim == 4 else [images]

    def opened(numbered: Iterable[tuple[int, ImageInput]]) -> Iterator[Stream]:
        for are_sources, group in groupby(numbered, key=lambda pair: isinstance(pair[1], (str, os.PathLike))):
            if are_sources:
                yield join_streams([os.fspath(cast("PathLike", item)) for _, item in group])
            else:
                yield Listed([pixels_ref(f"#{position}", item) for position, item in group])

    if isinstance(images, Iterator):
        return (ref for pair in enumerate(images) for stream in opened([pair]) for ref in stream)
    parts = list(opened(enumerate(images)))
    if not parts:
        raise DataError("no images were given: pass at least one path, PIL image or array.")
    return join(parts)


def file_ref(path: str, label: int = -1) -> ImageRef:
    """Refer to the image file ``path``."""
    return ImageRef(path_id(path), partial(read_image, path), partial(read_encoded, path), label)


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
    image, truncated, damaged, or above Pillow's limit for decompression bombs.  So that a truncated file
    never passes as an image, ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is set back to False if other code
    has set it.
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
    with _explained(id, "its mask: "):
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with Image.open(io.BytesIO(_content(fetch(), id))) as image:
            if image.mode not in ("1", "L", "P") or image.format == "JPEG":  # which blurs numbers into others
                raise DataError(f"a {image.format} of mode {image.mode}, not a PNG with one number of 8 bits an object")
            return image.convert("L") if image.mode == "1" else Image.fromarray(np.asarray(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any PIL image into upright RGB of 8 bits a channel.

    - The EXIF orientation is applied; a damaged EXIF block says nothing and leaves the pixels as stored.
    - 16-bit grey (modes ``I;16*``, and ``I``, in which Pillow hands out 16-bit data too) is scaled by
      255/65535, where PIL's own ``convert`` would clip; 12-bit TIFF by 255/4095.
    - ``F`` has no range of its own: values within 0..1 are scaled by 255, else values within 0..255 are taken
      as they are, else values within 0..65535 are scaled by 255/65535.
    - Transparency (alpha, palette or colour key) is laid over white; where opaque, colours do not change.
    - CMYK, YCCK, YCbCr, LAB, palette, grey and 1-bit are converted by Pillow, without their colour profiles.

    The result carries no metadata, so that a second call changes nothing.

    Raises DataError when values of ``I`` or ``F`` lie outside those ranges or are not finite.
    """
    image.load()  # some formats write their EXIF block after the pixels
    method = _orientation(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _grey8(image)
    elif image.has_transparency_data:
        image = _over_white(image)
    if method is not None:
        image = image.transpose(method)
    image = image.convert("RGB")
    image.info = {}  # the orientation among it: it has been applied, and must not be applied again
    return image


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
        raise DataError("a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise DataError("not a regular file")
    if status.st_size == 0:
        raise DataError("the file is empty (0 bytes)")


def _decoded(file: PathLike | io.BytesIO) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(file) as image:
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


def _orientation(image: Image.Image) -> Image.Transpose | None:
    # Not ImageOps.exif_transpose: it writes the whole EXIF block anew, which fails on some cameras' tags.
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (struct.error, KeyError, SyntaxError, TypeError, ValueError, OSError, ZeroDivisionError):
        return None


def _grey8(image: Image.Image) -> Image.Image:
    """Scale a grey image of modes I, I;16* or F to mode L."""
    values = np.asarray(image)
    white = _white(image, values)
    if white == 255:
        grey = np.rint(values).astype(np.uint8)
    elif values.dtype.kind == "f":
        grey = np.rint(values * (255.0 / white)).astype(np.uint8)
    else:
        top = int(white)
        grey = ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts such TIFFs only up to 8 bits
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey)


def _white(image: Image.Image, values: NDArray[Any]) -> float:
    """Return the value that stands for white in a grey image of more than 8 bits."""
    if image.mode.startswith("I;"):
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS)
        return 4095 if bits in (12, (12,)) else 65535
    low, high = float(values.min()), float(values.max())
    whites = (65535,) if image.mode == "I" else (1, 255, 65535)
    for white in whites:
        if low >= 0 and high <= white:
            return white
    ranges = " or ".join(f"0..{white}" for white in whites)
    raise DataError(
        f"grey values from {low:g} to {high:g} have no defined brightness: save the image with values in {ranges}"
    )


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # the only way out of premultiplied grey that Pillow has
    image = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    return canvas.convert("RGB")


def _reason(error: Exception) -> str:
    """Say in one sentence, without the file's name, why an image cannot be read."""
    detail = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImageError):
        return error.reason
    if isinstance(error, DataError):
        return detail
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a format that Pillow cannot read"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large to decode safely: {detail}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror or detail}"
    return f"truncated or damaged: {detail}"
