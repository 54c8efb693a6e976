from __future__ import annotations

import csv
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from adios_zoo.cores import _cgroup_quota
from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.extract import FeatureExtractor, extract_to_file
from adios_zoo.feature_file import read_features
from tests.conftest import DATA
from tests.models import small_model

PHOTOS = DATA / "photos"
SUFFIXES = [".parquet", ".npy", ".csv"]


class TinyEncoder(nn.Module):
    """Mean colour and a few filters: enough to tell any two of the test images apart."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator)
        self.drop = nn.Dropout(0.5)
        self.card = SimpleNamespace(name="tiny")

    def transform(self, image: Image.Image) -> Tensor:
        assert image.mode == "RGB"
        return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1).float() / 255

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), self.drop(self.conv(x)).mean((2, 3))], 1)


def extractor(**settings: object) -> FeatureExtractor:
    return FeatureExtractor(TinyEncoder(), **{"device": "cpu", "batch_size": 4, **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(11):
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path / f"{i:02}.png")
    return path


def break_five(folder: Path) -> set[str]:
    whole = sorted(folder.iterdir())[0].read_bytes()
    (folder / "000_empty.jpg").touch()
    (folder / "03_cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "05_text.jpg").write_text("no picture")
    (folder / "07_gone.png").symlink_to(folder / "nowhere.png")
    (folder / "zz_head.png").write_bytes(whole[:20])
    return {"000_empty.jpg", "03_cut.png", "05_text.jpg", "07_gone.png", "zz_head.png"}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_rows_are_the_images_in_name_order(folder: Path, workers: int) -> None:
    features = extractor(num_workers=workers).extract(folder)
    assert features.dtype == np.float32
    assert features.shape == (11, 8)
    for row, path in zip(features, sorted(folder.iterdir()), strict=True):
        mean = np.asarray(Image.open(path).resize((8, 8))).mean((0, 1)) / 255
        np.testing.assert_allclose(row[:3], mean, atol=1e-5)


def test_given_order_is_kept_and_all_kinds_mix(folder: Path) -> None:
    paths = sorted(folder.iterdir())[::-1]
    run = extractor()
    reverse = run.extract(paths)
    np.testing.assert_allclose(reverse, run.extract(folder)[::-1], atol=1e-6)
    arrays = [np.asarray(Image.open(path)) for path in paths]
    mixed = [str(paths[0]), Image.open(paths[1]), *arrays[2:]]
    np.testing.assert_allclose(run.extract(mixed), reverse, atol=1e-6)
    np.testing.assert_allclose(run.extract(np.stack(arrays)), reverse, atol=1e-6)
    np.testing.assert_allclose(run.extract(paths[3]), reverse[3:4], atol=1e-6)


def test_stream_gives_batches_and_reads_no_further_than_it_must(folder: Path) -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield Image.new("RGB", (9, 9), (len(taken) % 256, 0, 0))

    stream = extractor(num_workers=2).stream(endless())
    ids, features = next(stream)
    assert ids == ["#0", "#1", "#2", "#3"]
    assert features.shape == (4, 8)
    assert len(taken) <= 3 * 4
    stream.close()
    sizes = [len(ids) for ids, _ in extractor().stream(folder)]
    assert sizes == [4, 4, 3]


def test_broken_files_raise_or_are_left_out_and_never_shift_a_row(folder: Path) -> None:
    run = extractor()
    before = run.extract(folder)
    assert run.failures == []
    broken = break_five(folder)
    with pytest.raises(DataError, match=r"000_empty\.jpg: the file is empty"):
        run.extract(folder)
    np.testing.assert_array_equal(run.extract(folder, skip_bad=True), before)
    assert {Path(failure.id).name for failure in run.failures} == broken
    assert all(failure.reason for failure in run.failures)


def test_an_image_the_transform_cannot_take_is_a_failure_too(folder: Path) -> None:
    model = TinyEncoder()
    whole = model.transform

    def picky(image: Image.Image) -> Tensor:
        if image.size == (1, 1):
            raise MemoryError
        return whole(image)

    model.transform = picky
    run = FeatureExtractor(model, device="cpu")
    assert run.extract([Image.new("L", (1, 1)), Image.new("L", (2, 2))], skip_bad=True).shape == (1, 8)
    assert [failure.id for failure in run.failures] == ["#0"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_hold_the_same_rows_with_and_without_broken_images(
    folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"f{suffix}"
    side = tmp_path / f"f{suffix}.failed.csv"
    good = extract_to_file(folder, output, extractor=extractor())
    assert (good.rows, good.dim, good.failures, good.exit_code) == (11, 8, (), 0)
    assert "images/s" in capsys.readouterr().err
    assert not side.exists()
    ids, features = read_features(output)
    assert ids == [str(path) for path in sorted(folder.iterdir())]

    broken = break_five(folder)
    report = extract_to_file(folder, output, extractor=extractor(), progress=False)
    again_ids, again = read_features(output)
    assert again_ids == ids
    np.testing.assert_array_equal(again, features)
    assert (report.rows, len(report.failures), report.exit_code) == (11, 5, 1)
    with side.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert {Path(row["path"]).name for row in listed} == broken
    assert all(row["reason"] for row in listed)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all(any(name in line for line in lines) for name in broken)

    allowed = extract_to_file(folder, output, extractor=extractor(), progress=False, skip_bad=True)
    assert (allowed.exit_code, side.exists()) == (0, True)
    for name in broken:
        (folder / name).unlink()
    extract_to_file(folder, output, extractor=extractor(), progress=False)
    assert not side.exists()


def test_no_image_left_is_an_error_and_writes_no_features(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    output = tmp_path / "f.parquet"
    with pytest.raises(DataError, match=r"none of the 1 images.*a\.jpg"):
        extract_to_file(tmp_path, output, extractor=extractor(), progress=False, skip_bad=True)
    assert not output.exists()
    assert "a.jpg,the file is empty" in (tmp_path / "f.parquet.failed.csv").read_text().replace(str(tmp_path) + "/", "")
    with pytest.raises(DataError, match="none of the 1 images"):
        extractor().extract(tmp_path, skip_bad=True)
    with pytest.raises(DataError, match="no images were given"):
        extractor().extract([])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "f.parquet.failed.csv"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_exception_midway_leaves_no_file(folder: Path, tmp_path: Path, suffix: str) -> None:
    run = extractor()
    calls = []

    def fails(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return x.mean((2, 3))

    run.backend.model.forward = fails
    with pytest.raises(RuntimeError, match="power cut"):
        extract_to_file(folder, tmp_path / f"f{suffix}", extractor=run, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_features_that_are_not_finite_are_refused(folder: Path) -> None:
    run = extractor()
    run.backend.model.forward = lambda x: x.mean((2, 3)) / 0
    with pytest.raises(BackendError, match="not finite"):
        run.extract(folder)


def test_bf16_is_close_to_fp32_and_comes_as_float32(folder: Path) -> None:
    half = extractor(precision="bf16").extract(folder)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, extractor().extract(folder), atol=0.05)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"backend": "caffe"}, BackendError, "caffe"),
        ({"device": "abacus"}, BackendError, "unknown"),
        ({"device": "cuda:99"}, BackendError, "not available"),
        ({"precision": "fp16"}, BackendError, "'fp32', 'bf16'"),
        ({"precision": "int8"}, BackendError, "int8"),
        ({"precision": "fp8"}, BackendError, "fp8"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"batch_size": "many"}, ConfigError, "batch_size"),
        ({"num_workers": -1}, ConfigError, "num_workers"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, object], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        extractor(**settings)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_photograph_turned_by_its_exif_has_the_features_of_the_upright_one(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    upright = Image.fromarray(
        np.stack([np.tile(ramp, (48, 1)), np.tile(ramp[:48, None], 64), np.full((48, 64), 9)], 2).astype("u1")
    )
    turned = upright.transpose(Image.Transpose.ROTATE_90)  # tag 6 asks the viewer to turn it back
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(tmp_path / f"a.{suffix}")
    turned.save(tmp_path / f"b.{suffix}", exif=exif)
    model = small_model()
    found = FeatureExtractor(model, device="cpu").extract([tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"])
    with Image.open(tmp_path / f"b.{suffix}") as image, torch.inference_mode():
        direct = model(model.transform(image)[None]).numpy()
    np.testing.assert_allclose(found[1:], direct, atol=1e-5)
    cosine = float(found[0] @ found[1] / np.linalg.norm(found[0]) / np.linalg.norm(found[1]))
    assert cosine > 0.999


def test_automatic_settings_fit_the_machine() -> None:
    run = extractor(batch_size="auto")
    assert run.batch_size == 32
    assert 1 <= run.num_workers <= len(os.sched_getaffinity(0))
    assert not run.backend.model.training


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_cgroup_quotas_are_read(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _cgroup_quota(tmp_path) == cores


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no sample photographs in {PHOTOS}; set ADIOS_PHOTOS to a folder")
def test_real_photographs(tmp_path: Path) -> None:
    run = extractor()
    features = run.extract(PHOTOS)
    paths = sorted(path for path in PHOTOS.iterdir() if path.suffix == ".jpg")
    assert features.shape == (len(paths), 8)
    assert np.isfinite(features).all()
    for path in paths:
        (tmp_path / path.name).symlink_to(path.resolve())
    (tmp_path / "n02_cut.jpg").write_bytes(paths[5].read_bytes()[:3000])
    again = run.extract(tmp_path, skip_bad=True)
    np.testing.assert_allclose(again, features, atol=1e-6)
    assert [Path(failure.id).name for failure in run.failures] == ["n02_cut.jpg"]
