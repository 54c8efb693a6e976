"""The table of speeds: every precision of the folder at every batch size."""

from __future__ import annotations

from pathlib import Path

import pytest
from adios_zoo.export.precision import plan_precisions, write_precisions
from adios_zoo.export.speed import main, measure

from adios_zoo.errors import ConfigError
from tests.small_models import exported_model, saved_model


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported_model(tmp_path / "m")
    write_precisions(plan_precisions(folder, ["fp16"]), folder)
    found = measure(str(folder), [1, 3], rounds=2)
    assert [(s.precision, s.batch) for s in found] == [("fp32", 1), ("fp16", 1), ("fp32", 3), ("fp16", 3)]
    for fp32, fp16 in (found[:2], found[2:]):
        assert fp32.ratio == 1
        assert fp16.ratio == pytest.approx(fp16.images_per_second / fp32.images_per_second)
    main([str(folder), "--batch", "2", "--rounds", "1"])
    assert capsys.readouterr().out.count("\n| fp") == 2


def test_a_folder_without_onnx_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="adios export"):
        measure(str(saved_model(tmp_path / "m")), [1], rounds=1)
