"""Photographs of formats that are not read, or not everywhere, are failures that say what to do."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from adios_zoo.images.image import ImageError, encoded_ref, read_image
from adios_zoo.sources.find import find

PHOTO = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))).convert("RGB")
HEIC_HEAD = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_is_read_where_its_package_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(PHOTO).save(tmp_path / "a.heic", quality=95)
    (tmp_path / "named.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    for name in ("a.heic", "named.jpg"):
        pixels = np.asarray(read_image(tmp_path / name)).astype(int)
        assert np.abs(pixels - np.asarray(PHOTO)).mean() < 4


def test_without_it_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r'a HEIC image, which pillow-heif reads: pip install "adios-zoo\[heic\]"'):
        encoded_ref("a.heic", HEIC_HEAD).read()


def test_camera_raw_is_never_taken_for_its_preview(tmp_path: Path) -> None:
    for name, tags in (("a.dng", {50706: b"\1\4\0\0"}), ("a.nef", {254: 1})):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, value in tags.items():
            info.tagtype[tag] = 1 if isinstance(value, bytes) else 4
            info[tag] = value
        PHOTO.save(tmp_path / name, format="TIFF", tiffinfo=info)
        with pytest.raises(ImageError, match="camera raw"):
            read_image(tmp_path / name)
    for head in (b"FUJIFILMCCD-RAW 0201", b"IIU\0" + bytes(40), b"\0\0\0\x18ftypcrx " + bytes(40)):
        with pytest.raises(ImageError, match="camera raw"):
            encoded_ref("a", head).read()
    with pytest.raises(ImageError, match="JPEG XL"):
        encoded_ref("a", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)).read()


def test_a_folder_names_all_that_looks_like_an_image(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.jpg")
    PHOTO.save(tmp_path / "no_suffix", format="JPEG")
    (tmp_path / "b.HEIC").write_bytes(HEIC_HEAD)
    (tmp_path / "heic_too").write_bytes(HEIC_HEAD)
    (tmp_path / "c.cr2").write_bytes(b"II*\0 and so on")
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    assert list(find(tmp_path).names) == ["a.jpg", "b.HEIC", "c.cr2", "heic_too", "no_suffix"]
