"""Tar files: by number and in passing, labels, compression, worker processes."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources import tar
from adios_zoo.sources.open import open_source, open_stream
from adios_zoo.sources.source import Source, Stream
from tests.sources.small import Numbers, number_of, numbers, png


def write_tar(path: Path, members: dict[str, bytes | str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def sample(number: int, label: object) -> dict[str, bytes | str]:
    return {f"{number:03}.png": png(number), f"{number:03}.cls": str(label)}


def shard(path: Path, *of: int, mode: str = "w") -> Path:
    return write_tar(path, {name: data for number in of for name, data in sample(number, number % 3).items()}, mode)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    shard(tmp_path / "s-1.tar", *range(6, 10))
    shard(tmp_path / "s-0.tar", *range(6))
    return open_source(f"tar:{tmp_path}/s-{{0..1}}.tar")


def test_images_labels_and_names(source: Source, tmp_path: Path) -> None:
    assert len(source) == 10
    assert numbers(source) == [number_of(source[i]) for i in range(10)] == list(range(10))
    for refs in (list(source), [source[i] for i in range(10)]):
        assert [ref.label for ref in refs] == [i % 3 for i in range(10)]
        assert refs[7].id == f"{tmp_path}/s-1.tar/007.png"
        assert refs[7].encoded is not None
        assert refs[7].encoded() == png(7)
    assert source.classes == ()
    again = pickle.loads(pickle.dumps(source))
    assert number_of(again[8]) == 8


@pytest.mark.parametrize(("start", "stop"), [(0, None), (2, 4), (5, 7), (6, None), (9, 99), (10, None)])
def test_any_stretch(source: Source, tmp_path: Path, start: int, stop: int | None) -> None:
    assert numbers(source.iterate(start, stop)) == list(range(10))[start:stop]
    stream = open_stream(f"tar-stream:{tmp_path}/*.tar")
    assert numbers(stream.iterate(start, stop)) == list(range(10))[start:stop]


def test_worker_processes(source: Source) -> None:
    loader = DataLoader(Numbers(source), batch_size=3, num_workers=2)
    found = [(int(n), int(label)) for batch in loader for n, label in zip(*batch, strict=True)]
    assert found == [(i, i % 3) for i in range(10)]


def test_samples_as_webdataset_groups_them(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar",
        {
            "x/0.json": json.dumps({"label": 4, "caption": "0"}),
            "x/0.seg.png": png(90),
            "x/0.png": png(0),
            "x/1.txt": "a caption without an image",
            "y/0.JPG": png(1),
            "y/0.json": "no json",
            "z.v2.png": png(2),
            ".hidden.png": png(91),
            "4.png": png(3),
            "4.json": json.dumps({"cls": "7"}),
            "5.png": png(4),
            "5.json": json.dumps({"label": 1}),
            "5.cls": "8",
        },
    )
    for stream in (open_stream(path), open_stream(f"tar-stream:{path}")):
        refs = list(stream)
        assert numbers(refs) == [0, 1, 2, 3, 4]
        assert [ref.label for ref in refs] == [4, -1, -1, 7, 8]


def test_names_of_classes_become_numbers(tmp_path: Path) -> None:
    labels = ("cow", "ant", "cow")
    members = {name: data for number, label in enumerate(labels) for name, data in sample(number, label).items()}
    path = write_tar(tmp_path / "a.tar", {**members, "9.png": png(9)})
    source = open_source(path)
    assert source.classes == ("ant", "cow")
    assert [ref.label for ref in source] == [1, 0, 1, -1]
    assert {ref.label for ref in open_stream(f"tar-stream:{path}")} == {-1}


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_compressed_files_are_streams(tmp_path: Path, compression: str) -> None:
    path = shard(tmp_path / f"a.tar.{compression}", 0, 1, 2, mode=f"w:{compression}")
    with pytest.raises(DataError, match=rf"is compressed .* tar-stream:{path}"):
        open_source(f"tar:{path}")
    stream = open_stream(f"tar-stream:{path}")
    assert numbers(stream) == [0, 1, 2]
    with pytest.raises(DataError, match="is a stream"):
        open_source(f"tar-stream:{path}")


def test_a_large_index_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "home"))
    path = shard(tmp_path / "a.tar", *range(6))
    first = open_source(path)
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(tar, "_LARGE", 6)
    open_source(path)
    monkeypatch.setattr(tar, "_samples", None)
    again = open_source(path)
    assert numbers(again) == numbers(first) == list(range(6))
    assert again.fingerprint() == first.fingerprint()
    monkeypatch.undo()
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "home"))
    shard(path, *range(7))
    assert len(open_source(path)) == 7


def test_the_fingerprint_is_of_the_images(tmp_path: Path) -> None:
    def fingerprint(kind: str, name: str, *of: int) -> str:
        return open_stream(f"{kind}:{shard(tmp_path / name, *of)}").fingerprint()

    assert fingerprint("tar", "a.tar", 0, 1) == fingerprint("tar", "b.tar", 0, 1) != fingerprint("tar", "c.tar", 0, 2)
    assert fingerprint("tar-stream", "a.tar", 0, 1) != fingerprint("tar-stream", "c.tar", *range(20))


def test_broken_images_and_broken_files(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.png": b"", "1.png": b"no image", "2.png": png(2)})
    for stream in (open_stream(path), open_stream(f"tar-stream:{path}")):
        empty, bad, good = stream
        assert number_of(good) == 2
        for ref, reason in ((empty, "empty"), (bad, "not an image")):
            with pytest.raises(ImageError, match=reason):
                ref.read()
    whole = shard(tmp_path / "b.tar", *range(9)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:5300])  # within a header
    (tmp_path / "short.tar").write_bytes(whole[:5700])  # within an image
    (tmp_path / "bad.tar").write_bytes(whole[:5120] + b"?" * 512 + whole[5632:])
    (tmp_path / "text.tar").write_text("no tar" * 300)
    for name in ("cut", "short", "bad", "text"):
        for kind in ("tar", "tar-stream"):
            with pytest.raises(DataError, match=f"{name}.tar is not a readable tar file"):
                list(open_stream(f"{kind}:{tmp_path}/{name}.tar"))
    with pytest.raises(DataError, match="no images"):
        open_source(write_tar(tmp_path / "none.tar", {"a.txt": "x"}))
    with pytest.raises(DataError, match="No file matches"):
        open_source(f"tar:{tmp_path}/gone-*.tar")


def test_tar_streams_are_streams(source: Source, tmp_path: Path) -> None:
    stream = open_stream(f"tar-stream:{tmp_path}/s-*.tar")
    assert isinstance(stream, Stream)
    assert not isinstance(stream, Source)
