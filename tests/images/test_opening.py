"""What of image files is opened: formats that decode in process, without the megabytes of text that a PNG may hold."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from adios_zoo.features.decoding import read_pixels
from adios_zoo.images.image import ImageError, encoded_ref, fetch_mask, file_ref, read_image
from adios_zoo.images.opening import FORMATS, open_image
from tests.conftest import ROOT
from tests.small_models import small_card

POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n1 0 0 setrgbcolor 0 0 40 40 rectfill\n%%EOF\n"
)


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `gs` first on PATH, which leaves this file behind when it is started."""
    started = tmp_path / "started"
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "gs"
    program.write_text(f"#!/bin/sh\n: > '{started}'\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # not looked for yet
    return started


def test_postscript_starts_no_program_under_any_name(tmp_path: Path, ghostscript: Path) -> None:
    with Image.open(io.BytesIO(POSTSCRIPT)) as image, pytest.raises(OSError):  # noqa: PT011 (any that Pillow raises)
        image.load()
    assert ghostscript.exists(), "the stand-in is not what Pillow starts"
    ghostscript.unlink()
    dos = b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, len(POSTSCRIPT), 0, 0, 0, 0) + b"\0\0" + POSTSCRIPT
    for name, content in (("cat.jpg", POSTSCRIPT), ("cat.png", dos), ("cat.eps", POSTSCRIPT)):
        path = tmp_path / name
        path.write_bytes(content)
        for read in (
            lambda path=path: read_image(path),
            lambda path=path: read_pixels(file_ref(str(path)), small_card()),
            lambda content=content: encoded_ref("cat", content).read(),
            lambda content=content: fetch_mask("cat", lambda: content),
        ):
            with pytest.raises(ImageError, match="not an image"):
                read()
    assert not ghostscript.exists()


def test_no_other_code_opens_images_by_itself() -> None:
    opening = {
        path.name
        for folder in ("adios_zoo", "train", "export")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bImage\.open\(", path.read_text(encoding="utf-8"))
    }
    assert opening == {"opening.py"}


def test_the_documentation_names_every_format() -> None:
    names = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
    text = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if names.get(name, name) not in text] == []


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes, at_the_end: bool = False) -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content, place = file.getvalue(), -12 if at_the_end else 33
    return pixels, content[:place] + b"".join(chunks) + content[place:]


LONG = bytes(range(256)) * 8000
MEGABYTES = {
    "workflow": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b'{"prompt": "a cat"}' * 170_000)),
    "plain text": chunk(b"tEXt", b"Comment\0" + b"x" * 70_000_000),
    "plain international text": chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 70_000_000),
    "packed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "many texts": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG[:900_000])) * 80,
    "profile": chunk(b"iCCP", b"Printer profile\0\0" + zlib.compress(LONG)),
}


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("what", MEGABYTES)
def test_a_png_with_megabytes_of_text_gives_its_pixels(what: str, at_the_end: bool, tmp_path: Path) -> None:
    pixels, content = png_with(MEGABYTES[what], at_the_end=at_the_end)
    assert np.array_equal(np.asarray(encoded_ref("a", content).read()), pixels)
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), pixels)


def test_a_gigabyte_of_text_takes_little_memory() -> None:
    packer = zlib.compressobj()
    packed = b"".join([*(packer.compress(bytes(2**20)) for _ in range(1024)), packer.flush()])
    pixels, content = png_with(chunk(b"zTXt", b"Comment\0\0" + packed))
    read_image_once = encoded_ref("a", png_with()[1]).read()  # what Pillow loads at first is not counted
    assert read_image_once.size == (7, 9)
    tracemalloc.start()
    assert np.array_equal(np.asarray(encoded_ref("a", content).read()), pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_small_texts_stay_and_count(tmp_path: Path) -> None:
    # Orientation 6 in XMP, which Pillow reads where there is no EXIF block.
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    turned = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    _, content = png_with(turned, chunk(b"tEXt", b"Title\0a jay"), MEGABYTES["workflow"])
    with open_image(io.BytesIO(content)) as image:
        assert image.info["Title"] == "a jay"
        assert "workflow" not in image.info
    assert encoded_ref("a", content).read().size == (9, 7)


def test_a_png_with_damaged_chunks_is_still_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    _, content = png_with(MEGABYTES["profile"], at_the_end=False)
    for cut in (len(content) - 100, 60, 36):
        with pytest.raises(ImageError):
            encoded_ref("a", content[:cut]).read()
