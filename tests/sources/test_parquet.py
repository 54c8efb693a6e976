"""Parquet files: every row by number and in passing, from threads and worker processes."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources import parquet
from adios_zoo.sources.open import open_source
from adios_zoo.sources.source import Source
from tests.conftest import DATA
from tests.sources.small import CLASSES, Numbers, number_of, numbers, png, write_parquet

TINY = DATA / "tiny-imagenet"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    write_parquet(tmp_path / "b.parquet", range(10, 17))
    write_parquet(tmp_path / "a.parquet", range(10))
    return open_source(f"parquet:{tmp_path}/*.parquet")


def test_rows_labels_and_names(source: Source, tmp_path: Path) -> None:
    assert len(source) == 17
    assert source.classes == CLASSES
    assert numbers(source) == list(range(17))
    in_passing = [(ref.id, ref.label, ref.encoded and ref.encoded()) for ref in source]
    by_number = [(ref.id, ref.label, ref.encoded and ref.encoded()) for ref in (source[i] for i in range(17))]
    assert in_passing == by_number
    assert in_passing[11] == (f"{tmp_path}/b.parquet[1]", 1, png(11))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (3, 5), (4, 8), (9, 11), (10, None), (16, 99), (17, None), (5, 5)]
)
def test_any_stretch_of_rows(source: Source, start: int, stop: int | None) -> None:
    assert numbers(source.iterate(start, stop)) == list(range(17))[start:stop]


def test_only_some_row_groups_are_kept(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_KEPT_BYTES", 600)  # one or two of them
    assert [number_of(source[i]) for i in (16, 0, 5, 12, 0, 16)] == [16, 0, 5, 12, 0, 16]
    groups = source._groups()
    assert len(groups._kept) <= 2
    assert groups._bytes == sum(images.nbytes for images in groups._kept.values())


def test_threads_and_pickles_read_the_same(source: Source) -> None:
    order = torch.randperm(17).tolist() * 4
    number_of(source[0])
    again = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: number_of(again[i]), order)) == order


def test_worker_processes(source: Source) -> None:
    number_of(source[0])  # what the parent has open must not matter
    loader = DataLoader(Numbers(source), batch_size=3, num_workers=2, multiprocessing_context="fork")
    found = [(int(n), int(label)) for batch in loader for n, label in zip(*batch, strict=True)]
    assert found == [(i, (i if i < 10 else i - 10) % 3) for i in range(17)]


def test_cells_without_an_image_are_image_errors(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [0, None, b"", b"no image", 4])
    source = open_source(tmp_path / "a.parquet")
    for refs in (list(source), [source[i] for i in range(5)]):
        assert [number_of(refs[0]), number_of(refs[4])] == [0, 4]
        for ref, reason in zip(refs[1:4], ("no content", "empty", "not an image"), strict=True):
            with pytest.raises(ImageError, match=reason):
                ref.read()


def test_plain_bytes_other_names_and_unknown_labels(tmp_path: Path) -> None:
    table = pa.table({"img": pa.array([png(0), png(1)], pa.binary()), "label": pa.array([5, None], pa.int32())})
    pq.write_table(table, tmp_path / "plain.parquet")
    source = open_source(tmp_path / "plain.parquet")
    assert numbers(source) == [0, 1]
    assert [ref.label for ref in source] == [source[0].label, source[1].label] == [5, -1]
    assert source.classes == ()
    write_parquet(tmp_path / "named.parquet", range(2), image="picture")
    assert numbers(open_source(tmp_path / "named.parquet")) == [0, 1]


def labelled(folder: Path, labels: pa.Array) -> Path:
    pq.write_table(pa.table({"image": pa.array(len(labels) * [png(0)]), "label": labels}), folder / "labelled.parquet")
    return folder / "labelled.parquet"


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (pa.array([2.0, None, float("nan")]), [2, -1, -1]),
        (pa.array([True, False, None]), [1, 0, -1]),
        (pa.array([3, None], pa.uint64()), [3, -1]),
        (pa.array([None, None]), [-1, -1]),
    ],
    ids=["whole floats", "truth values", "unsigned", "nothing"],
)
@pytest.mark.filterwarnings("error")
def test_labels_of_any_type_that_has_whole_numbers(tmp_path: Path, labels: pa.Array, numbers: list[int]) -> None:
    source = open_source(labelled(tmp_path, labels))
    assert [ref.label for ref in source] == [source[i].label for i in range(len(source))] == numbers


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (pa.array([0.1, 0.5, 0.9]), "double values that are no whole numbers"),
        (pa.array([0.0, float("inf")]), "double values that are no whole numbers"),
        (pa.array([2**63], pa.uint64()), "uint64 values that are no whole numbers"),
        (pa.array([[0], [1, 2], []]), "lists"),
        (pa.array([{"a": 1}]), "records"),
        (pa.array([b"cat"]), "binary values"),
    ],
)
def test_a_column_that_is_no_label_is_ignored_with_a_line(
    tmp_path: Path, labels: pa.Array, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = labelled(tmp_path, labels)
    source = open_source(path)
    assert [ref.label for ref in source] == [source[i].label for i in range(len(source))] == len(labels) * [-1]
    assert source.classes == ()
    line = f"adios: {path}: its column 'label' holds {kind} and is ignored; the images have no labels.\n"
    assert capsys.readouterr().err == line
    with pytest.raises(DataError, match="its column 'label' holds"):
        list(open_source(f"parquet:{path}#label=label"))


def test_the_fingerprint_is_of_the_rows_not_of_the_names(tmp_path: Path) -> None:
    a = open_source(write_parquet(tmp_path / "a.parquet", range(6))).fingerprint()
    assert open_source(write_parquet(tmp_path / "again.parquet", range(6))).fingerprint() == a
    assert open_source(write_parquet(tmp_path / "fewer.parquet", range(5))).fingerprint() != a
    assert open_source(write_parquet(tmp_path / "other.parquet", range(1, 7))).fingerprint() != a


def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    write_parquet(tmp_path / "none.parquet", [])
    for name, says in {
        "text": "not a readable parquet",
        "other": r"no column of images \(it has x\)",
        "none": "no rows",
        "gone": "No file matches",
    }.items():
        with pytest.raises(DataError, match=says):
            open_source(f"parquet:{tmp_path}/{name}.parquet")
    write_parquet(tmp_path / "c1.parquet", [1])
    write_parquet(tmp_path / "c2.parquet", [1], classes=("dog",))
    with pytest.raises(DataError, match="other classes"):
        open_source(f"parquet:{tmp_path}/c?.parquet")


def test_a_file_damaged_in_the_middle(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", range(8))
    source = open_source(path)
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        source[0].read()
    assert number_of(source[6]) == 6
    with pytest.raises(DataError, match="not a readable parquet"):
        list(source)


@pytest.mark.skipif(not TINY.is_dir(), reason="ADIOS_DATA names no folder with tiny-imagenet/")
def test_real_images() -> None:
    source = open_source(f"parquet:{TINY}/valid.parquet")
    assert (len(source), len(source.classes)) == (10_000, 200)
    assert source[7321].read().size == (64, 64)
    (same,) = source.iterate(7321, 7322)
    assert same.read().tobytes() == source[7321].read().tobytes()
    assert same.label == source[7321].label
