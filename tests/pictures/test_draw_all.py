"""One odd image never ends a run that draws masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from adios_zoo.pictures.draw import draw_masks
from tests.small_models import small_model


def test_long_names_and_thin_images_are_drawn_too(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    photo = Image.effect_noise((40, 40), 60).convert("RGB")
    names = ["a" * 240 + ".png", "b" * 251 + ".png", "é" * 125 + ".png", "c" * 250 + ".jpeg", "c" * 250 + ".webp"]
    for name in names:
        photo.save(folder / name)
    (folder / ("d" * 255)).write_bytes((folder / names[0]).read_bytes())
    Image.fromarray(np.zeros((1_000_000, 1), np.uint8)).save(folder / "line.png")
    (folder / "bad.png").write_bytes(b"no picture")
    report = draw_masks(small_model(), str(folder), tmp_path / "out", save_npy=True, progress=False)
    assert [Path(failure.id).name for failure in report.failures] == ["bad.png"]
    assert len({*report.written}) == len(names) + 2
    drawn = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert {"a" * 240 + ".png", "d" * 251 + ".png", "c" * 250 + ".png", "c" * 249 + "-2.png", "line.png"} <= drawn
    assert len(list((tmp_path / "out").glob("*.npy"))) == len(drawn) == len(report.written)
