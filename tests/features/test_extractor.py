from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adios_zoo.cores import _cgroup_quota
from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.features.decoding import read_pixels
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.features.journal import Failure
from adios_zoo.features.write_file import Features
from adios_zoo.images.image import ImageRef
from adios_zoo.models.card import Card
from adios_zoo.models.preprocess import Pixels
from tests.conftest import DATA
from tests.small_models import small_model
from tests.tiny import break_five, small_images, tiny_extractor

PHOTOS = DATA / "photos"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_images(tmp_path / "images")


def cosine(a: Features, b: Features) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_rows_are_the_images_in_name_order(folder: Path, workers: int) -> None:
    features = tiny_extractor(num_workers=workers).extract(folder)
    assert features.dtype == np.float32
    assert features.shape == (11, 8)
    for row, path in zip(features, sorted(folder.iterdir()), strict=True):
        mean = np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BILINEAR)).mean((0, 1)) / 255
        np.testing.assert_allclose(row[:3], mean, atol=1 / 255)


def test_given_order_is_kept_and_all_kinds_mix(folder: Path) -> None:
    paths = sorted(folder.iterdir())[::-1]
    run = tiny_extractor()
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

    stream = tiny_extractor(num_workers=2).stream(endless())
    ids, features = next(stream)
    assert ids == ["#0", "#1", "#2", "#3"]
    assert features.shape == (4, 8)
    assert len(taken) <= 4 * 4  # a batch given, one encoded, one waiting, one decoded
    stream.close()
    sizes = [len(ids) for ids, _ in tiny_extractor().stream(folder)]
    assert sizes == [4, 4, 3]


def test_broken_files_raise_or_are_left_out_and_never_shift_a_row(folder: Path) -> None:
    run = tiny_extractor()
    failures: list[Failure] = []
    before = run.extract(folder, skip_bad=True, failures=failures)
    assert failures == []
    broken = break_five(folder)
    with pytest.raises(DataError, match=r"000_empty\.jpg: the file is empty"):
        run.extract(folder)
    np.testing.assert_array_equal(run.extract(folder, skip_bad=True, failures=failures), before)
    assert {Path(failure.id).name for failure in failures} == broken
    assert all(failure.reason for failure in failures)
    stream = run.stream(folder, skip_bad=True)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in stream]), before)
    assert stream.failures == failures
    with pytest.raises(DataError, match="none of the 1 images"):
        run.extract(folder / "05_text.jpg", skip_bad=True, failures=failures)
    assert [Path(failure.id).name for failure in failures[5:]] == ["05_text.jpg"]


def test_an_image_that_cannot_be_made_an_input_is_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(ref: ImageRef, card: Card) -> Pixels:
        if ref.id == "#0":
            raise MemoryError
        return read_pixels(ref, card)

    monkeypatch.setattr("adios_zoo.features.extractor.read_pixels", picky)
    run = tiny_extractor()
    failures: list[Failure] = []
    pictures = [Image.new("L", (1, 1)), Image.new("L", (2, 2))]
    assert run.extract(pictures, skip_bad=True, failures=failures).shape == (1, 8)
    assert failures == [Failure("#0", "cannot be made an input of the model: MemoryError")]


def test_features_that_are_not_finite_are_refused(folder: Path) -> None:
    run = tiny_extractor()
    run.backend.model.forward = lambda x: x.mean((2, 3)) / 0
    with pytest.raises(BackendError, match="not finite"):
        run.extract(folder)


def test_bf16_is_close_to_fp32_and_comes_as_float32(folder: Path) -> None:
    half = tiny_extractor(precision="bf16").extract(folder)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, tiny_extractor().extract(folder), atol=0.05)


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
        tiny_extractor(**settings)


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
    assert cosine(found[1], direct[0]) > 0.9999
    assert cosine(found[0], found[1]) > 0.999


def test_automatic_settings_fit_the_machine() -> None:
    run = tiny_extractor(batch_size="auto")
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
    run = tiny_extractor()
    features = run.extract(PHOTOS)
    paths = sorted(path for path in PHOTOS.iterdir() if path.suffix == ".jpg")
    assert features.shape == (len(paths), 8)
    assert np.isfinite(features).all()
    for path in paths:
        (tmp_path / path.name).symlink_to(path.resolve())
    (tmp_path / "n02_cut.jpg").write_bytes(paths[5].read_bytes()[:3000])
    failures: list[Failure] = []
    again = run.extract(tmp_path, skip_bad=True, failures=failures)
    np.testing.assert_allclose(again, features, atol=1e-6)
    assert [Path(failure.id).name for failure in failures] == ["n02_cut.jpg"]
