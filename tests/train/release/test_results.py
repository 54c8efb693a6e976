"""The page of results is what the cards and the records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adios_zoo.train.release import results

import adios_zoo
from tests.conftest import ROOT
from tests.train.small import write_images

DOCS = ROOT / "docs"


def test_the_page_in_the_docs_is_up_to_date(tmp_path: Path) -> None:
    page = results.write_page(tmp_path, study=DOCS / results.STUDY)
    text = page.read_text()
    assert text == (DOCS / results.PAGE).read_text(), "write it anew by python -m adios_zoo.train.release.results"
    for picture in (results.PLOT, results.PHOTOGRAPHS):
        assert (tmp_path / picture).stat().st_size > 10_000
        assert (DOCS / picture).exists()
    for figure in adios_zoo.card("resnet18_tin200").figures:
        assert f"| {figure.name} | {figure.value:g} {figure.unit} |" in text


def test_figures_of_the_bundled_encoder_are_of_the_weights_that_ship() -> None:
    weights = adios_zoo.card("resnet18_tin200").files["model.safetensors"].sha256
    assert f"weights `{weights[:12]}`" in (DOCS / "evaluation.md").read_text(), "measure them anew"


def test_every_run_of_the_comparison_has_its_command_on_the_page() -> None:
    study = json.loads((DOCS / results.STUDY).read_text())
    text = (DOCS / results.PAGE).read_text()
    trained = [run for run in study["runs"] if run["images_seen"]]
    assert trained
    for run in trained:
        assert f"    {run['command']}\n" in text


def test_pictures_are_drawn_from_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_images(tmp_path / "a.parquet", 16, 64)
    page = results.write_page(tmp_path / "out", pictures=source)
    for name in ("masks.png", "neighbours.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000
        assert f"({name})" in page.read_text()
    assert not (tmp_path / "out" / results.PLOT).exists()
