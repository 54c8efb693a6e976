"""Ray Data on a small Ray of this machine: the local engine's rows, failures and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from adios_zoo.cli import main
from adios_zoo.errors import BackendError, ConfigError, DataError, UnknownModelError
from adios_zoo.features.ray_engine import FeatureActor, RayExtractor
from adios_zoo.features.read_file import open_features, read_features
from tests.small_models import saved_model
from tests.test_docs import blocks


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_BACKEND_LOG_LEVEL="fatal")
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and forty pictures, two of them broken."""
    path = tmp_path_factory.mktemp("work")
    saved_model(path / "model")
    (path / "photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(38):
        pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / "photos" / f"{i:02}.png")
    (path / "photos" / "07_text.jpg").write_text("no picture")
    (path / "photos" / "zz_empty.jpg").touch()
    return path


def extract(*arguments: str) -> int:
    return main(["extract", "photos", "--model", "model", "--batch-size", "4", "--quiet", *arguments])


def test_the_rows_failures_and_exit_code_of_the_local_engine(
    ray: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert extract("-o", "local.parquet") == 1
    told = capsys.readouterr()
    assert extract("-o", "ray.parquet", "--engine", "ray", "--actors", "1", "--workers", "1") == 1
    again = capsys.readouterr()
    assert again.err == told.err
    assert again.out == told.out.replace("local", "ray")
    ids, features = read_features(Path("local.parquet"))
    there = read_features(Path("ray.parquet"))
    assert there[0] == ids
    assert len(ids) == 38
    np.testing.assert_allclose(there[1], features, rtol=1e-5, atol=1e-6)
    assert open_features("ray.parquet").metadata == open_features("local.parquet").metadata
    failed = Path("ray.parquet.failed.csv").read_text()
    assert failed == Path("local.parquet.failed.csv").read_text()
    assert failed.count("\n") == 3


def test_what_goes_wrong_in_an_actor_is_one_sentence(
    ray: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert extract("-o", "none.parquet", "--engine", "ray", "--actors", "1", "--device", "mars") == 1
    assert capsys.readouterr().err.startswith("adios: device 'mars' is unknown")
    assert not Path("none.parquet").exists()


def test_the_documented_callable(ray: ModuleType, folder: Path, tmp_path: Path) -> None:
    ((_, example),) = [block for block in blocks("scale-out.md") if block[0] == "python"]
    # Ray was started in another folder, so that relative paths do not serve.
    for name, path in (("resnet18_tin200", folder / "model"), ("photos/", folder / "photos"), ("features/", tmp_path)):
        example = example.replace(f'"{name}"', f'"{path}"')
    exec(example, {})
    file = open_features(tmp_path)
    assert file.metadata["adios.card"] == "test_resnet_shapes_simclr"
    found = dict(zip((Path(id).name for id in file.ids()), np.concatenate(list(file.features())), strict=True))
    assert len(found) == 40
    assert {name for name, row in found.items() if np.isnan(row).all()} == {"07_text.jpg", "zz_empty.jpg"}
    reasons = [reason for group in file.column("reason") for reason in group]
    assert sum(reason is not None for reason in reasons) == 2


def test_a_callable_takes_paths_contents_and_pixels(folder: Path) -> None:
    import pyarrow as pa
    from ray.data.extensions import ArrowTensorArray

    pictures = sorted((folder / "photos").glob("*.png"))[:3]
    paths = pa.table({"path": list(map(str, pictures)), "n": [1, 2, 3]})
    contents = pa.table({"bytes": [path.read_bytes() for path in pictures], "n": [1, 2, 3]})
    arrays = np.stack([np.asarray(Image.open(path)) for path in pictures])
    shapes = np.empty(2, object)
    shapes[:] = [arrays[0], arrays[1][:9]]
    tensors = [
        pa.FixedShapeTensorArray.from_numpy_ndarray(arrays),
        ArrowTensorArray.from_numpy(arrays),
        ArrowTensorArray.from_numpy(shapes),
    ]
    of_pixels = [FeatureActor(folder / "model", column="image")(pa.table({"image": t})) for t in tensors]
    assert of_pixels[0]["feature"].equals(of_pixels[1]["feature"])
    assert [table.column_names for table in of_pixels] == 3 * [["feature", "reason"]]
    assert [len(table) for table in of_pixels] == [3, 3, 2]
    of_paths = FeatureActor(folder / "model")(paths)
    assert of_paths.column_names == ["path", "n", "feature", "reason"]
    of_contents = FeatureActor(folder / "model", column="bytes")(contents)
    assert of_contents.column_names == ["n", "feature", "reason"]
    assert of_contents["feature"].equals(of_paths["feature"])
    assert of_paths["reason"].null_count == 3
    same = [np.stack(t["feature"].to_pylist()) for t in (of_paths, of_pixels[0])]
    np.testing.assert_allclose(same[1], same[0], rtol=1e-5, atol=1e-6)
    broken = pa.table({"path": [str(folder / "photos" / "07_text.jpg")]})
    with pytest.raises(DataError, match="07_text"):
        FeatureActor(folder / "model", on_error="raise")(broken)
    with pytest.raises(DataError, match="no column 'path'; its columns are bytes, n"):
        FeatureActor(folder / "model")(contents)
    with pytest.raises(ConfigError, match="on_error"):
        FeatureActor(folder / "model", on_error="skip")


def test_mistakes_are_told_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownModelError):
        RayExtractor("no_such_model")
    with pytest.raises(ConfigError, match="actors is 0"):
        RayExtractor(actors=0)
    assert main(["extract", "photos", "-o", "f.parquet", "--actors", "2"]) == 2
    with pytest.raises(DataError, match="this source is a stream"):
        next(RayExtractor()._run(iter([]), True))
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(BackendError, match=r'pip install "adios-zoo\[ray\]"'):
        RayExtractor()
