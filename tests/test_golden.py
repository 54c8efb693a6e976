"""The golden numbers that travel with the project: how large they are, where they come from, who reads which."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path

import pytest

from tests import conftest
from tests.conftest import GOLDEN, OWN_GOLDEN
from tests.reference import method_files, read

CUT = ["byol_adios", "segmentation", "simclr_adios_s", "simsiam_adios_nomask_both", "unet"]


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in OWN_GOLDEN.rglob("*") if path.is_file()) < 4_000_000


@pytest.mark.parametrize("name", CUT)
def test_cut_again_they_are_the_same(name: str) -> None:
    whole, own = GOLDEN / f"{name}.safetensors", OWN_GOLDEN / f"{name}.safetensors"
    if not whole.is_file() or hashlib.sha256(whole.read_bytes()).hexdigest() != read(own)[0]["cut_from"]:
        pytest.skip("ADIOS_REFERENCE names no folder with the whole file that this one was cut from")
    assert runpy.run_path(str(OWN_GOLDEN / "cut.py"))["cut"](whole) == own.read_bytes()


def test_what_another_folder_lacks_is_read_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "GOLDEN", tmp_path)
    (tmp_path / "knn.json").write_text(json.dumps({}))
    assert conftest.golden("knn.json") == tmp_path
    assert conftest.golden("knn.json", "knn.safetensors") == OWN_GOLDEN  # results go with their own features
    (tmp_path / "byol_adios.safetensors").write_bytes((OWN_GOLDEN / "byol_adios.safetensors").read_bytes())
    files = method_files(OWN_GOLDEN, tmp_path)
    assert len(files) == len(method_files(OWN_GOLDEN))
    assert [path for path in files if path.parent == tmp_path] == [tmp_path / "byol_adios.safetensors"]
