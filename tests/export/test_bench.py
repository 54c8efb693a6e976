"""The benchmark measures what it says; how fast it is here is nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adios_zoo.export.bench import _enlarged, bench_extract, report
from PIL import Image

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError
from adios_zoo.sources.open import open_images
from tests.small_models import exported_model
from tests.tiny import small_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("bench") / "model")


def test_every_way_here_with_its_ceilings(folder: Path, tmp_path: Path) -> None:
    rows = bench_extract(str(folder), str(small_images(tmp_path / "images")), count=13, rounds=1)
    by_way = {row.way: row for row in rows}
    assert list(by_way) == [
        "plain", "plain decoding", "decoding", "torch", "torch: encoder alone", "onnx fp32", "onnx fp32: encoder alone",
    ]  # fmt: skip
    assert all(row.rate > 0 and row.megabytes > 10 for row in rows)
    assert by_way["plain"].ratio == by_way["plain decoding"].ratio == 1
    assert by_way["onnx fp32"].ratio == pytest.approx(by_way["onnx fp32"].rate / by_way["plain"].rate)
    ceilings = [by_way["decoding"].rate, by_way["onnx fp32: encoder alone"].rate]
    assert by_way["onnx fp32"].share == pytest.approx(by_way["onnx fp32"].rate / min(ceilings))
    for way in ("torch", "onnx fp32"):
        assert by_way[way].cosine is not None
        assert min(by_way[way].cosine) > 0.999
    # Without torch it is smaller by far.
    assert by_way["onnx fp32"].megabytes < by_way["torch"].megabytes
    assert report(rows).count("\n") == len(rows) + 1


def test_start_up(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = small_images(tmp_path / "images", count=1)
    out = tmp_path / "startup.json"
    arguments = [
        "bench",
        "extract",
        str(images),
        "--model",
        str(folder),
        "--startup",
        "--rounds",
        "1",
        "--json",
        str(out),
    ]
    assert main(arguments) == 0
    assert set(json.loads(out.read_text())) == {"torch", "onnx"}
    assert "to the first feature" in capsys.readouterr().out


def test_photographs_are_enlarged(tmp_path: Path) -> None:
    images = open_images(small_images(tmp_path / "images", count=1))
    out = tmp_path / "large"
    out.mkdir()
    assert _enlarged(images, out, 0.5) == str(out)
    with Image.open(out / "0000.jpg") as image:
        assert image.format == "JPEG"
        assert np.prod(image.size) == pytest.approx(5e5, rel=0.01)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"count": 0}, {"megapixels": -1}])
def test_numbers_that_make_no_sense(folder: Path, tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        bench_extract(str(folder), str(tmp_path), **wrong)
