"""Images from wherever they lie: found in a fixed order, decoded to RGB, or said why they cannot be read.

Which files are taken
    folder      every file below it whose suffix is in :data:`IMAGE_SUFFIXES`, broken or not; other files are
                no images and are passed over.  Symbolic links to folders are followed, each folder once.
    glob        every file that matches, whatever its suffix (``**`` crosses folders); matched folders are
                passed over.
    list file   ``.txt``, one path a line, relative to the list's own folder; blank lines and ``#`` lines are
                skipped.  Every line is taken.
    file        taken, whatever its suffix.
    sequence    any of these, one after the other.

Folders and globs give name order, which is the order of the POSIX path strings (relative to the folder);
lists and sequences keep theirs.  Names that start with a dot are hidden and never taken from a folder or a
glob.
"""

from __future__ import annotations

import glob
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from adios_zoo.errors import DataError

PathLike: TypeAlias = "str | os.PathLike[str]"
ImageInput: TypeAlias = "PathLike | Image.Image | NDArray[Any]"
Images: TypeAlias = "ImageInput | Iterable[ImageInput]"

# Pillow also claims .pdf, .h5, .mpg, .fits and others that it cannot decode or that hold no picture; a data
# set kept beside the images must not be reported as a broken image.
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi",
    ".tga", ".tif", ".tiff", ".webp",
))
# fmt: on

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
    """An image not yet decoded: its name in the results, and a call that gives RGB or raises ImageError."""

    id: str
    read: Callable[[], Image.Image]


def open_images(images: Images) -> Iterable[ImageRef]:
    """Name every image of ``images`` without decoding any.

    ``images`` is what :func:`find_images` takes, a PIL image, an array (H,W), (H,W,1), (H,W,3) or (H,W,4) of
    uint8 or (H,W) of uint16, a batch (N,H,W,C) of uint8, or a mixture of all in one iterable.  Paths are
    their own id; a PIL image or an array is ``#i``, its position in the iterable from 0.  An iterator is
    consumed lazily, everything else gives a list.

    Raises DataError when nothing is found.
    """
    if isinstance(images, (str, os.PathLike)):
        return [_path_ref(path) for path in find_images(images)]
    if isinstance(images, Image.Image):
        images = [images]
    elif isinstance(images, np.ndarray):
        images = list(images) if images.ndim == 4 else [images]
    refs = (ref for position, item in enumerate(images) for ref in _refs(position, item))
    if isinstance(images, Iterator):
        return refs
    found = list(refs)
    if not found:
        raise DataError("no images were given: pass at least one path, PIL image or array.")
    return found


def find_images(source: PathLike | Sequence[PathLike]) -> list[Path]:
    """List the image files of a folder, glob, ``.txt`` list, single file, or a sequence of these.

    A member of a sequence or a line of a list that does not exist is kept, so that reading it reports it.

    Raises DataError when ``source`` does not exist, a folder cannot be listed, or nothing is found.
    """
    if not isinstance(source, (str, os.PathLike)):
        found = [path for item in source for path in _expand(item)]
        if not found:
            raise DataError("no images were given: pass at least one path.")
        return found
    found = _expand(source)
    if found == [Path(source)] and not _exists(Path(source)):
        raise DataError(f"{source}: no such file or folder; give a folder, a glob, a .txt list or an image file.")
    return found


def read_image(path: PathLike) -> Image.Image:
    """Decode the image file ``path`` (the first frame of an animation) to upright RGB, 8 bits a channel.

    Raises ImageError, a DataError, whose reason is one sentence, for a file that is missing, empty, not an
    image, truncated, damaged, or above Pillow's limit for decompression bombs.  So that a truncated file
    never passes as an image, ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is set back to False if other code
    has set it.
    """
    name = path_id(path)
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise DataError("a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise DataError("not a regular file")
        if status.st_size == 0:
            raise DataError("the file is empty (0 bytes)")
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with Image.open(path) as image:
            return to_rgb(image)
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise ImageError(name, _reason(error)) from error


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


def path_id(path: PathLike) -> str:
    """Name ``path`` in results: its own text, with line breaks and bytes that are not UTF-8 as escapes.

    Every output format can hold such a name, and a line of a text file is always one name.
    """
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _path_ref(path: Path) -> ImageRef:
    return ImageRef(path_id(path), partial(read_image, path))


def _refs(position: int, item: ImageInput) -> list[ImageRef]:
    if isinstance(item, (str, os.PathLike)):
        return [_path_ref(path) for path in _expand(item)]
    return [ImageRef(f"#{position}", partial(_in_memory, f"#{position}", item))]


def _in_memory(name: str, item: Image.Image | NDArray[Any]) -> Image.Image:
    try:
        return to_rgb(item if isinstance(item, Image.Image) else _from_array(item))
    except Exception as error:  # a PIL image may still be undecoded, and so fail as a file does
        raise ImageError(name, _reason(error)) from error


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


def _expand(item: PathLike) -> list[Path]:
    path = Path(item)
    if not _exists(path):
        return _in_glob(str(path)) if glob.has_magic(str(path)) else [path]
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".txt":
        return _in_list(path)
    return [path]


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):  # ValueError: a NUL byte, which no path can hold
        return False
    return True


def _in_folder(folder: Path) -> list[Path]:
    names: list[str] = []
    seen: set[tuple[int, int]] = set()

    def unlistable(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot list this folder ({error.strerror}).") from error

    for root, folders, files in os.walk(folder, followlinks=True, onerror=unlistable):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back up the tree would never end
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(root).relative_to(folder)
        names += [
            (relative / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not names:
        raise DataError(
            f"{folder}: no image files in this folder; name files without an image suffix by a glob, "
            f"as '{folder.as_posix()}/*'."
        )
    return [folder / name for name in sorted(names)]


def _in_glob(pattern: str) -> list[Path]:
    matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    found = (Path(match) for match in matches)
    files = sorted((path for path in found if not path.is_dir()), key=Path.as_posix)
    if not files:
        raise DataError(f"{pattern}: no file matches; '**' crosses folders, as in 'photos/**/*.jpg'.")
    return files


def _in_list(path: Path) -> list[Path]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: cannot read this list ({error.strerror}).") from error
    lines = (line.strip() for line in text.split("\n"))
    found = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not found:
        raise DataError(f"{path}: the list names no image; write one path a line.")
    return found


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
