"""Images that are far longer than wide, of which a central crop sees next to nothing."""

from __future__ import annotations

from PIL import Image

# More than a resize of the short side and a central crop ever look at, with all that the resampling reaches.
_MOST = 16


def middle(image: Image.Image) -> Image.Image:
    """The middle of an image over 16 times as long as wide, any other as it is.

    One of 1 x 1,000,000 pixels whose short side is resized to 224 would take 150 GB; the crop is the same without.
    """
    width, height = image.size
    short = _MOST * min(width, height)
    across, down = max(0, width - short) // 2, max(0, height - short) // 2
    return image.crop((across, down, width - across, height - down)) if across or down else image
