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

from PIL import Image, ImageFile

# Each is decoded in process and opens no other file.  Left out besides EPS: WMF, BUFR, GRIB, HDF5 and MPEG, which
# Pillow does not decode itself; IPTC, which holds an image of any format; FITS, which unpacks without a limit.
# fmt: off
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "QOI", "TGA", "ICO", "PCX", "SGI", "DIB",
    "BLP", "CUR", "DCX", "DDS", "FLI", "FTEX", "ICNS", "IM", "MSP", "PCD", "PIXAR", "PSD", "SPIDER", "SUN", "XBM",
    "XPM",
)
# fmt: on

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
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened, open_image(opened) as image:
            yield image
        return
    with Image.open(_with_few_texts(file), formats=_known()) as image:
        yield image


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
