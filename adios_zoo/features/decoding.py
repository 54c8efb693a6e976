"""From image files to the encoder's pixels, decoding no more of a JPEG than the encoder will see.

A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size at a fraction of the cost; and of a resized image only the
part within the crop need be computed.  The plain way, :func:`adios_zoo.models.preprocess.crop` of the whole image,
stays the reference: features differ from its by a cosine above 0.999 (``adios bench extract`` measures it).
"""

from __future__ import annotations

import io

from adios_zoo.images.image import ImageRef, decode_image
from adios_zoo.images.opening import open_image
from adios_zoo.images.rgb import to_rgb
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import Pixels, as_pixels, crop, crop_start, resampling, resized_size

# A JPEG is decoded at no less than so many times the size that it is then resized to: below, aliasing shows.
_AMPLE = 2


def read_pixels(ref: ImageRef, card: Card) -> Pixels:
    """Read one image as the encoder's pixels before normalisation, (S, S, 3) uint8.

    Raises ImageError.
    """
    if ref.encoded is None:
        return crop(card, ref.read())
    data = ref.encoded()
    try:
        return _decoded(data, card)
    except Exception:  # whatever is wrong with it, the plain way finds it and says it
        return crop(card, decode_image(data, ref.id))


def _decoded(data: bytes, card: Card) -> Pixels:
    with open_image(io.BytesIO(data)) as file:
        width, height = file.size
        across, down = resized_size(card, width, height)
        drafted = file.draft(None, (_AMPLE * across, _AMPLE * down))  # does nothing to other formats
        extent = drafted[1][2:] if drafted else (width, height)  # not whole: the last pixel may lie partly outside
        stored = file.size
        image = to_rgb(file)
    if image.size != stored:  # it lay on its side
        width, height, extent = height, width, extent[::-1]
    size, limits = resized_size(card, width, height), image.size
    starts = [crop_start(card, side) for side in size]
    scales = [have / side for have, side in zip(extent, size, strict=True)]
    left, top = (start * scale for start, scale in zip(starts, scales, strict=True))
    right, bottom = (
        min((start + card.input_size) * scale, limit)
        for start, scale, limit in zip(starts, scales, limits, strict=True)
    )
    side = card.input_size
    return as_pixels(image.resize((side, side), resampling(card), box=(left, top, right, bottom)))
