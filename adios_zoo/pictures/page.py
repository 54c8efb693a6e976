"""A contact sheet: a light page of pictures with a line of text above each."""

from __future__ import annotations

import unicodedata

from PIL import Image, ImageDraw, ImageFont

GROUND, INK, FAINT, LINE = "#FAF9F7", "#1F2328", "#6B7075", "#D8D5CF"

MARGIN, TITLE, HEADING = 40, 68, 26  # pixels: around the page, of its title, above each picture


class Page:
    """A page of ``width`` x ``height`` pixels; ``page.image`` is the picture."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), GROUND)
        self.draw = ImageDraw.Draw(self.image)

    def title(self, title: str, caption: str) -> None:
        """Set the page's title and a line below it; they end ``TITLE`` below the margin."""
        self.text((MARGIN, MARGIN - 8), title, 26)
        self.text((MARGIN, MARGIN + 28), caption, 15, FAINT)

    def text(self, at: tuple[int, int], text: str, size: int, ink: str = INK, *, room: int | None = None) -> None:
        """Set one line, its top left at ``at``, cut in the middle to ``room`` pixels, or else to the page."""
        font = ImageFont.load_default(size=size)
        text = _printable(text)
        if room is None:
            room = self.image.width - at[0] - MARGIN
        keep = len(text)
        shown = text
        while font.getlength(shown) > room and keep > 2:
            keep -= 1
            shown = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        self.draw.text(at, shown, fill=ink, font=font)

    def tile(self, at: tuple[int, int], heading: str, picture: Image.Image, swatch: str | None = None) -> None:
        """Set a picture with its heading above it, and before that a swatch of its colour."""
        x, y = at
        indent = 0
        if swatch is not None:
            self.draw.rounded_rectangle((x, y + 3, x + 12, y + 15), radius=3, fill=swatch)
            indent = 20
        self.text((x + indent, y), heading, 15)
        y += HEADING
        self.image.paste(picture, (x, y))
        self.draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=LINE)


def _printable(text: str) -> str:
    """Drop accents and replace what Pillow's built-in font cannot draw, which it would show as boxes."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() or c in "·…" else "?" for c in plain)
