"""Any PIL image to upright RGB of 8 bits a channel."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from adios_zoo.errors import DataError

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
