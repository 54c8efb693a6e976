"""Image files opened for reading: only what Pillow decodes within this process, with little memory for texts.

Pillow also reads PostScript, for which it starts Ghostscript, and formats whose decoders other packages bring.  A
file's content says what it is, not its name, so only the formats named here are tried.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from adios_zoo.errors import DataError

# Each is decoded in process and opens no other file.  Left out besides EPS: WMF, BUFR, GRIB, HDF5 and MPEG, which
# Pillow does not decode itself; IPTC, which holds an image of any format; FITS, which unpacks without a limit.
# fmt: off
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "QOI", "TGA", "ICO", "PCX", "SGI", "DIB",
    "BLP", "CUR", "DCX", "DDS", "FLI", "FTEX", "ICNS", "IM", "MSP", "PCD", "PIXAR", "PSD", "SPIDER", "SUN", "XBM",
    "XPM",
)
# fmt: on

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_RAW = (b"FUJIFILMCCD-RAW", b"II\x1a\0\0\0HEAPCCDR", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb")
_DNG_VERSION, _SUBFILE_TYPE, _REDUCED = 50706, 254, 1

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# What all texts and the profile of a PNG may take, unpacked; Pillow calls a PNG damaged that has more in one of them.
_MOST_TEXT = 2**20


@contextmanager
def open_image(file: str | os.PathLike[str] | BinaryIO) -> Iterator[Image.Image]:
    """Open an image file, not yet decoded, as ``PIL.Image.open`` does.

    So that a truncated file never passes as an image, ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is set back to False if
    other code has set it.

    Raises:
        PIL.UnidentifiedImageError: it is of none of :data:`FORMATS`.
        DataError: it is of a format that is known and not read, with the remedy.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened, open_image(opened) as image:
            yield image
        return
    with _opened(_with_few_texts(file)) as image:
        _check_whole(image)
        yield image


def _opened(file: BinaryIO) -> Image.Image:
    start = file.tell()
    try:
        return Image.open(file, formats=_known())
    except UnidentifiedImageError:
        file.seek(start)
        head = file.read(16)
        if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
            _learn_heif()
            file.seek(start)
            return Image.open(file, formats=("HEIF",))
        if head.startswith(_JPEG_XL):
            raise DataError("a JPEG XL image, which is not read here; save it as JPEG or PNG") from None
        if head.startswith(_RAW) or head[4:12] == b"ftypcrx ":
            raise DataError("a camera raw file, which is not read here; develop it to JPEG, PNG or TIFF") from None
        raise


def _learn_heif() -> None:
    """Teach Pillow HEIC, by a package that decodes it in process."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise DataError('a HEIC image, which pillow-heif reads: pip install "adios-zoo[heic]"') from error
    register_heif_opener()


def _check_whole(image: Image.Image) -> None:
    """Refuse camera raw in the form of TIFF: what Pillow reads of it is as a rule a small preview."""
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags and (_DNG_VERSION in tags or tags.get(_SUBFILE_TYPE, 0) == _REDUCED):
        raise DataError("a camera raw file, of which there is only a preview here; develop it to JPEG, PNG or TIFF")


@cache
def _known() -> tuple[str, ...]:
    """Those of the formats that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _with_few_texts(file: BinaryIO) -> BinaryIO:
    """The file itself; of a PNG with more text than allowed, a copy without the texts that are too many."""
    start = file.tell()
    left_out = list(_texts_too_many(file))
    file.seek(start)
    if not left_out:
        return file
    parts = []
    for begin, end in left_out:
        parts.append(file.read(begin - file.tell()))
        file.seek(end)
    return io.BytesIO(b"".join([*parts, file.read()]))


def _texts_too_many(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Where each chunk of a PNG begins and ends that would take the texts beyond their limit."""
    if file.read(len(_PNG)) != _PNG:
        return
    allowed = _MOST_TEXT
    while len(head := file.read(8)) == 8:
        begin = file.tell() - 8
        length, kind = struct.unpack(">I4s", head)
        end = begin + 12 + length  # with the checksum
        if kind in _TEXTS:
            size = _unpacked(kind, file.read(length), allowed)
            if size > allowed:
                yield begin, end
            else:
                allowed -= size
        file.seek(end)


def _unpacked(kind: bytes, content: bytes, allowed: int) -> int:
    """How many bytes a chunk's text has, or some number above ``allowed``; no more than that is unpacked."""
    keyword, _, rest = content.partition(b"\0")
    packed = rest[1:]  # after the number of the method
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] != b"\1"):
        return len(content)
    if kind == b"iTXt":
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # after language and translated keyword
    try:
        return len(keyword) + len(zlib.decompressobj().decompress(packed, allowed + 1))
    except zlib.error:
        return len(content)  # Pillow passes over it
