"""Data sets of the Hub: local folders, which the library reads as it reads a repository, and a cached repository."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources.open import open_source, open_stream
from adios_zoo.sources.source import Source, Stream
from tests.sources.small import CLASSES, Numbers, number_of, numbers, png, write_parquet

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    write_parquet(folder / "data" / "train-00000-of-00002.parquet", range(7))
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", range(7, 10))
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", [30, 31])
    return folder


def test_a_split_by_number(repository: Path) -> None:
    source = open_source(f"hf:{repository}")
    assert len(source) == 10
    assert source.classes == CLASSES
    assert numbers(source) == [number_of(source[i]) for i in range(10)] == list(range(10))
    assert [ref.label for ref in source] == [i % 3 for i in (*range(7), *range(3))]
    assert source[3].id == f"hf:{repository}[3]"
    assert source[3].encoded is not None
    assert source[3].encoded() == png(3)
    assert numbers(open_source(f"hf:{repository}#test")) == [30, 31]
    assert numbers(open_source(f"hf:{repository}#train[2:4]")) == [2, 3]
    assert number_of(pickle.loads(pickle.dumps(source))[8]) == 8


def test_worker_processes(repository: Path) -> None:
    loader = DataLoader(Numbers(open_source(f"hf:{repository}")), batch_size=3, num_workers=2)
    assert [int(n) for batch, _ in loader for n in batch] == list(range(10))


@pytest.mark.parametrize(("start", "stop"), [(0, None), (3, 5), (6, None), (9, 99), (10, None), (5, 5)])
def test_a_stream_goes_on_where_it_stopped(repository: Path, start: int, stop: int | None) -> None:
    stream = open_stream(f"hf-stream:{repository}")
    whole = list(stream)
    some = list(stream.iterate(start, stop))
    assert numbers(some) == list(range(10))[start:stop]
    assert [(ref.id, ref.label) for ref in some] == [(ref.id, ref.label) for ref in whole][start:stop]
    assert stream.classes == CLASSES
    assert not isinstance(stream, Source)
    assert numbers(pickle.loads(pickle.dumps(stream)).iterate(start, stop)) == numbers(some)


def test_folders_of_files_are_read_where_they_lie(tmp_path: Path) -> None:
    for number, name in enumerate(("train/bee/0.png", "train/ant/1.png", "train/ant/bad.png")):
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(b"no image" if "bad" in name else png(number))
    for kind in ("hf", "hf-stream"):
        stream: Stream = open_stream(f"{kind}:{tmp_path}/files")
        assert stream.classes == ("ant", "bee")
        refs = list(stream)
        contents = [ref.encoded and ref.encoded() for ref in refs]
        assert sorted(zip(contents, [ref.label for ref in refs], strict=True)) == sorted(
            [(png(0), 1), (png(1), 0), (b"no image", 0)]
        )
        with pytest.raises(ImageError, match="not an image"):
            refs[contents.index(b"no image")].read()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("org/data", ("org/data", None, None, "train")),
        ("data:small", ("data", "small", None, "train")),
        ("org/data@v1.0#test", ("org/data", None, "v1.0", "test")),
        ("org/data:small@refs/pr/3#train[:10%]", ("org/data", "small", "refs/pr/3", "train[:10%]")),
    ],
)
def test_the_parts_of_a_name(
    repository: Path, monkeypatch: pytest.MonkeyPatch, place: str, expected: tuple[str | None, ...]
) -> None:
    load, asked = datasets.load_dataset, []

    def loads(name: str, config: str | None, *, revision: str | None, split: str, streaming: bool) -> object:
        asked.append((name, config, revision, split))
        return load(str(repository), split="train", streaming=streaming)

    monkeypatch.setattr(datasets, "load_dataset", loads)
    assert numbers(open_stream(f"hf:{place}")) == numbers(open_stream(f"hf-stream:{place}")) == list(range(10))
    assert asked == [expected, expected]


def test_fingerprints_tell_splits_apart(repository: Path) -> None:
    for kind in ("hf", "hf-stream"):
        train = open_stream(f"{kind}:{repository}").fingerprint()
        assert open_stream(f"{kind}:{repository}").fingerprint() == train
        assert open_stream(f"{kind}:{repository}#test").fingerprint() != train


def test_what_is_wrong_is_one_sentence(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.csv").write_text("a,b\n1,2\n")
    for place, says in {
        f"{repository}#nosplit": "nosplit",
        "org/missing": "cannot be loaded",
        f"{repository}:noconfig": "noconfig",
        f"{tmp_path}/text": r"no column of images \(it has a, b\)",
    }.items():
        with pytest.raises(DataError, match=says) as caught:
            open_source(f"hf:{place}")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="org/dataset"):
        open_source("hf:")
    with pytest.raises(DataError, match="is a stream"):
        open_source(f"hf-stream:{repository}")
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    assert len(open_source(f"hf:{repository}")) == 10
    with pytest.raises(DataError, match="HF_HUB_OFFLINE=1"):
        open_source("hf:org/missing")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        open_source(f"hf:{repository}")
