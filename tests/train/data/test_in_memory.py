"""Training images: decoding, labels, order, and what is wrong with a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import adios_zoo.train.data.in_memory as data_module
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from adios_zoo.train.data.in_memory import load_images
from PIL import Image

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageRef
from adios_zoo.sources.open import open_source
from adios_zoo.sources.source import Stream
from tests.conftest import DATA
from tests.train.small import CLASSES, write_images

TINY = DATA / "tiny-imagenet"


def test_images_labels_and_classes(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=7))
    assert data.images.shape == (7, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert data.classes == CLASSES
    brightest = data.images.float().mean(dim=(2, 3)).argmax(dim=1)
    assert brightest.tolist() == data.labels.tolist()


def test_files_follow_each_other_in_name_order(tmp_path: Path) -> None:
    write_images(tmp_path / "b.parquet", count=5, side=32)
    write_images(tmp_path / "a.parquet", count=4, side=32)
    both = load_images(f"parquet:{tmp_path}/*.parquet")
    assert len(both) == 9
    assert both.labels.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1]
    assert len(load_images(f"parquet:{tmp_path}/*.parquet", limit=6)) == 6


def test_the_fingerprint_tells_data_apart(tmp_path: Path) -> None:
    a = load_images(write_images(tmp_path / "a.parquet", count=6))
    again = load_images(write_images(tmp_path / "again.parquet", count=6))
    fewer = load_images(write_images(tmp_path / "fewer.parquet", count=5))
    assert a.fingerprint == again.fingerprint != fewer.fingerprint
    digest = hashlib.sha256()  # runs that go on after an update of the package compare it with the one they kept
    for ref in open_source(tmp_path / "a.parquet"):
        assert ref.encoded is not None
        digest.update(hashlib.sha256(ref.encoded()).digest() + ref.label.to_bytes(8, "little"))
    assert a.fingerprint == digest.hexdigest()


def test_other_sizes_are_resized_and_cut(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=3, side=48), size=32)
    assert data.images.shape == (3, 3, 32, 32)


def test_broken_images_are_listed_with_reasons(tmp_path: Path) -> None:
    data = load_images(write_images(tmp_path / "a.parquet", count=6, broken=(1,)), max_bad_share=0.2)
    assert len(data) == 5
    assert data.labels.tolist() == [0, 2, 0, 1, 2]
    ((where, reason),) = data.failures
    assert where == f"{tmp_path}/a.parquet[1]"
    assert reason


def test_too_many_broken_images_are_one_sentence(tmp_path: Path) -> None:
    source = write_images(tmp_path / "a.parquet", count=10, broken=(1, 4))
    with pytest.raises(DataError, match=r"2 of 10 images .* share of 0\.2.* max_bad_share=0\.19.*a\.parquet\[1\]: "):
        load_images(source, max_bad_share=0.19)
    with pytest.raises(DataError, match=r"1 of 10 .* max_bad_share=0\.01"):
        load_images(source)
    assert len(load_images(source, max_bad_share=0.2)) == 8
    for number in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="max_bad_share"):
            load_images(source, max_bad_share=number)


def test_folders_of_files_with_class_sub_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("bee/a.png", "ant/b.png", "bee/c.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / name)
    data = load_images(str(tmp_path))
    assert data.images.shape == (3, 3, 10, 10)
    assert data.images[:, 0, 5, 5].tolist() == [1, 0, 2]
    assert (data.labels.tolist(), data.classes) == ([0, 1, 1], ["ant", "bee"])


def test_streams_are_read_without_knowing_their_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_images(tmp_path / "a.parquet", count=40, broken=(7,))
    known = load_images(source, max_bad_share=0.1)

    class Unsized(Stream):
        classes = open_source(source).classes

        def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
            return open_source(source).iterate(start, stop)

        def fingerprint(self) -> str:
            return ""

    monkeypatch.setattr(data_module, "open_stream", lambda spec: Unsized())
    monkeypatch.setattr(data_module, "_CHUNK", 6)  # so that the memory has to grow
    stream = load_images(source, max_bad_share=0.1)
    assert torch.equal(stream.images, known.images)
    assert (stream.fingerprint, stream.failures, stream.classes) == (known.fingerprint, known.failures, known.classes)
    with pytest.raises(DataError, match="1 of 40"):
        load_images(source)


@pytest.mark.parametrize(
    ("source", "error", "word"),
    [
        ("nowhere/", DataError, "no such file or folder"),
        ("parqet:a.parquet", ConfigError, "did you mean parquet:"),
        ("parquet:/nowhere/*.parquet", DataError, "No file matches"),
    ],
)
def test_unknown_sources(source: str, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        load_images(source)


def test_files_of_another_layout(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a readable parquet"):
        load_images(f"parquet:{tmp_path}/text.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet has no column of images \(it has x\)"):
        load_images(f"parquet:{tmp_path}/other.parquet")
    with pytest.raises(DataError, match="None of the first images"):
        load_images(write_images(tmp_path / "all.parquet", count=2, broken=(0, 1)))
    with pytest.raises(DataError, match=r"No image of .* could be read"):
        load_images(write_images(tmp_path / "all.parquet", count=2, broken=(0, 1)), size=32, max_bad_share=1)


def test_a_cell_without_bytes_is_a_failure_and_plain_bytes_are_an_image(tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet", count=3)
    whole = pq.read_table(tmp_path / "a.parquet")["image"].to_pylist()
    cells = [whole[0]["bytes"], None, whole[2]["bytes"]]
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), tmp_path / "b.parquet")
    data = load_images(f"parquet:{tmp_path}/b.parquet", max_bad_share=0.5)
    assert len(data) == 2
    assert [where for where, _ in data.failures] == [f"{tmp_path}/b.parquet[1]"]
    assert data.labels.tolist() == [-1, -1]


@pytest.mark.skipif(not TINY.is_dir(), reason="ADIOS_DATA names no folder with tiny-imagenet/")
def test_real_images_grey_ones_included() -> None:
    data = load_images(f"parquet:{TINY}/valid.parquet", limit=300)
    assert data.images.shape == (300, 3, 64, 64)
    assert not data.failures
    assert len(data.classes) == 200
    assert data.images.float().std() > 40
