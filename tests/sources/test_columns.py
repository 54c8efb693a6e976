"""Tables as tools write them: which columns are read, and what is said where none can be."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources.columns import Asked, split_columns, with_columns
from adios_zoo.sources.open import open_source, open_stream
from tests.sources.small import number_of, numbers, png

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PNGS = [png(0), png(1), png(2)]


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["jpg", "bytes", "content", "image_bytes", "Image", "whatever"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), STRUCT, pa.dictionary(pa.int32(), pa.binary())])
def test_the_only_column_that_can_be_meant(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    cells = [{"bytes": cell, "path": None} for cell in PNGS] if kind == STRUCT else PNGS
    others = {"key": ["0", "1", "2"], "width": [4, 4, 4], "caption": ["a", "b", "c"]}
    source = open_source(write(tmp_path / "t.parquet", **others, **{name: pa.array(cells, kind)}))
    assert numbers(source) == [number_of(source[i]) for i in range(3)] == [0, 1, 2]


def test_a_known_name_goes_before_other_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", md5=[b"x"] * 3, jpg=PNGS, image=["a", "b", "c"])
    assert numbers(open_source(path)) == [0, 1, 2]


def test_where_several_may_be_meant_the_user_says_which(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", left=PNGS, right=PNGS[::-1], kind=["a", "b", "a"])
    with pytest.raises(DataError, match=r"images in left or right; name the right one by --image-column, or #image="):
        open_source(path)
    source = open_source(f"{path}#image=right#label=kind")
    assert numbers(source) == [2, 1, 0]
    assert [ref.label for ref in source] == [0, 1, 0]
    assert source.classes == ("a", "b")
    other = open_source(f"parquet:{tmp_path}/*.parquet#image=left")
    assert [ref.label for ref in other] == [-1, -1, -1]
    assert other.fingerprint() != source.fingerprint()
    for columns, option in (("#image=x", "--image-column"), ("#image=left#label=x", "--label-column")):
        with pytest.raises(ConfigError, match=f"no column 'x' for {option}; it has left, right, kind"):
            open_source(f"{path}{columns}")


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["a.jpg", "b.jpg"], r"column 'image' holds text, .*decoding base64; paths can be read as a \.txt list"),
        ([base64.b64encode(png(0)).decode()], "column 'image' holds text"),
        ([[png(0)], [png(1)]], "column 'image' holds lists, .*a row for each image"),
        ([{"data": png(0), "w": 3}], "column 'image' holds records, .*'bytes'"),
        ([1, 2], "column 'image' holds int64 values"),
    ],
)
def test_what_is_no_image_is_one_sentence(tmp_path: Path, cells: list[Any], says: str) -> None:
    path = write(tmp_path / "t.parquet", image=cells)
    for spec in (str(path), f"{path}#image=image"):
        with pytest.raises(DataError, match=says) as caught:
            open_source(spec)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_path_without_bytes_is_relative_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        (tmp_path / "data" / "img").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "img" / f"{number}.png").write_bytes(png(number))
    cells = [
        {"bytes": None, "path": "img/0.png"},
        {"bytes": None, "path": str(tmp_path / "data" / "img" / "1.png")},
        {"bytes": png(2), "path": "gone.png"},
        {"bytes": None, "path": "gone.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "img"},
    ]
    reasons = ["no such file", "it has no content", "it has no content", "a folder, not an image file"]
    path = write(tmp_path / "data" / "t.parquet", image=pa.array(cells, STRUCT), mask=pa.array(cells, STRUCT))
    monkeypatch.chdir(tmp_path / "data")
    for place in (path, "t.parquet"):
        source = open_source(place)
        for refs in (list(source), [source[i] for i in range(len(cells))]):
            assert numbers(refs[:3]) == [0, 1, 2]
            for ref, reason in zip(refs[3:], reasons, strict=True):
                with pytest.raises(ImageError, match=reason) as caught:
                    ref.read()
                assert caught.value.id == ref.id


def test_names_are_numbered_over_the_whole_source_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=PNGS, label=["dog", "cat", None])
    write(tmp_path / "b.parquet", image=PNGS, label=pa.array(["bee", "", "dog"]).dictionary_encode())
    source = open_source(f"parquet:{tmp_path}/*.parquet")
    assert source.classes == ("bee", "cat", "dog")
    expected = [2, 1, -1, 0, -1, 2]
    assert [ref.label for ref in source] == [source[i].label for i in range(6)] == expected
    assert [ref.label for ref in source.iterate(1, 5)] == expected[1:5]


def test_a_column_that_is_named_is_the_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "t.parquet", image=PNGS, label=[0.5, 1.0, 2.0], fine=[3, 4, 5])
    source = open_source(f"{path}#label=fine")
    assert [ref.label for ref in source] == [3, 4, 5]
    assert capsys.readouterr().err == ""


def test_columns_at_the_end_of_a_source() -> None:
    assert split_columns("a#1/b.parquet") == ("a#1/b.parquet", Asked())
    assert split_columns("org/x#train[:10%]#image=a b") == ("org/x#train[:10%]", Asked("a b"))
    assert split_columns("t#label=c") == ("t", Asked(None, "c"))
    assert with_columns("t.parquet", Asked()) == "t.parquet"
    assert with_columns("t.parquet", Asked("jpg")) == "parquet:t.parquet#image=jpg"
    assert with_columns("hf:o/x#test#label=c", Asked("i")) == "hf:o/x#test#image=i#label=c"
    with pytest.raises(ConfigError, match="photos/ has no columns; --image-column and --label-column are for"):
        with_columns("photos/", Asked("jpg"))


def test_a_data_set_saved_to_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    columns = {"image": [str(tmp_path / f"{i}.png") for i in range(6)], "label": ["b", "a", "b", None, "c", "a"]}
    data = datasets.Dataset.from_dict(columns, features=features)
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data.select([5, 0])}).save_to_disk(tmp_path / "two")
    for name in ("one", "two"):
        source = open_source(f"hf:{tmp_path}/{name}")
        assert numbers(source) == list(range(6))
        assert source.classes == ("a", "b", "c")
        assert [ref.label for ref in source] == [1, 0, 1, -1, 2, 0]
        assert open_source(f"hf:{tmp_path}/{name}").fingerprint() == source.fingerprint()
        stream = open_stream(f"hf-stream:{tmp_path}/{name}#train[1:3]")
        assert numbers(stream) == numbers(open_source(f"hf:{tmp_path}/{name}#train[1:3]")) == [1, 2]
        assert [ref.label for ref in stream] == [-1, -1]
        assert "which a stream cannot number" in capsys.readouterr().err
    assert numbers(open_source(f"hf:{tmp_path}/two#test+train[:1]")) == [5, 0, 0]
    with pytest.raises(DataError, match="validation"):
        open_source(f"hf:{tmp_path}/two#validation")
    shutil.rmtree(tmp_path / "two" / "test")
    with pytest.raises(DataError, match="cannot be loaded"):
        open_source(f"hf:{tmp_path}/two#test")


def test_the_options_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "t.parquet", left=PNGS, right=[*PNGS[:2], b"x"], kind=["b", "a", "b"])
    assert main(["data", str(path), "--image-column", "right", "--label-column", "kind"]) == 0
    said = capsys.readouterr().out
    assert "labelled     3, of 2 classes\nclass names  2: a, b\n" in said
    assert "[2]  label 1  cannot be read: not an image" in said
    for call in (
        ["data", str(path)],
        ["extract", str(path), "-o", str(tmp_path / "f.npy")],
        ["pretrain", "resnet18_tin200_cpu", "--data", str(path), "-o", str(tmp_path / "run")],
        ["evaluate", "knn", "--train", str(path), "--test", str(path)],
    ):
        assert main(call) == 1
        assert "in left or right; name the right one by --image-column" in capsys.readouterr().err
        assert main([*call, "--image-column", "gone"]) == 2
        assert "no column 'gone' for --image-column; it has left, right, kind" in capsys.readouterr().err
    assert main(["data", str(tmp_path), "--label-column", "kind"]) == 2
    assert "has no columns" in capsys.readouterr().err
