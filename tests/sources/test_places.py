"""Addresses: fsspec's memory and a web server on loopback stand for all of them."""

from __future__ import annotations

import pickle
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from adios_zoo.errors import AdiosError, ConfigError, DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources.open import open_images, open_source, open_stream
from adios_zoo.sources.places import expand
from tests.server import running
from tests.sources.small import number_of, numbers, png, write_parquet
from tests.sources.test_tar import shard


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def test_a_folder_a_glob_and_a_file(memory: Any) -> None:
    for number, name in enumerate(("bee/a.png", "ant/b.png", "ant/.hidden.png", "notes.txt")):
        memory.pipe(f"/photos/{name}", png(number))
    source = open_source("memory://photos")
    assert source.classes == ("ant", "bee")
    assert [(ref.id, ref.label) for ref in source] == [
        ("memory://photos/ant/b.png", 0),
        ("memory://photos/bee/a.png", 1),
    ]
    assert numbers(source) == [1, 0]
    assert number_of(pickle.loads(pickle.dumps(source))[1]) == 0
    assert source.fingerprint() != open_source("memory://photos/ant").fingerprint()
    assert numbers(open_source("memory://photos/*/a.png")) == [0]
    assert numbers(open_images("memory://photos/bee/a.png")) == [0]
    assert numbers(open_images(["memory://photos/bee/a.png", "memory://photos/ant"])) == [0, 1]


def test_parquet_and_tar_files(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/a/0.parquet", write_parquet(tmp_path / "0.parquet", range(9)).read_bytes())
    memory.pipe("/a/1.parquet", write_parquet(tmp_path / "1.parquet", range(9, 12)).read_bytes())
    memory.pipe("/a/0.tar", shard(tmp_path / "0.tar", *range(5)).read_bytes())
    memory.pipe("/a/0.tgz", shard(tmp_path / "0.tgz", *range(5), mode="w:gz").read_bytes())
    for spec in ("parquet:memory://a", "parquet:memory://a/*.parquet", "memory://a/{0..1}.parquet"):
        source = open_source(spec)
        assert numbers(source) == [number_of(source[i]) for i in range(12)] == list(range(12))
        assert source[10].id.endswith("a/1.parquet[1]")
    for spec in ("memory://a/0.tar", "tar:memory://a"):
        tar = open_source(spec)
        assert numbers(tar) == [number_of(tar[i]) for i in range(5)] == list(range(5))
    assert numbers(open_stream("tar-stream:memory://a/0.tgz")) == list(range(5))


class Site:
    """Files as a static web server shows them: in parts, as parquet and tar need, and folders as lists of links."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.over = threading.Event()

    def handle(self, http: Any, _: bytes) -> None:
        content = self.files.get(http.path)
        if content is None:
            http.answer(404)
            return
        kind = "text/html" if content.startswith(b"<") else "application/octet-stream"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", http.headers.get("Range") or "")
        if not asked:
            http.answer(200, content, Accept_Ranges="bytes", Content_Type=kind)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        http.answer(206, content[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(content)}", Content_Type=kind)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    files = {
        "/a.png": png(5),
        "/a.parquet": write_parquet(tmp_path / "a.parquet", range(9)).read_bytes(),
        "/s-0.tar": shard(tmp_path / "s-0.tar", 0, 1).read_bytes(),
        "/s-1.tar": shard(tmp_path / "s-1.tar", 2, 3).read_bytes(),
        "/photos/": b'<a href="bee/">bee/</a> <a href="x.png">x.png</a>',
        "/photos/bee": b'<a href="y.png">y.png</a>',
        "/photos/x.png": png(0),
        "/photos/bee/y.png": png(1),
    }
    with running(Site(files)) as address:
        yield address


def test_a_web_server(web: str) -> None:
    pytest.importorskip("aiohttp")
    assert numbers(open_source(f"{web}/a.png")) == [5]
    source = open_source(f"{web}/a.parquet")
    assert [number_of(source[i]) for i in (8, 0)] == [8, 0]
    assert numbers(source) == list(range(9))
    assert numbers(open_source(f"{web}/s-{{0..1}}.tar")) == [0, 1, 2, 3]
    assert numbers(open_stream(f"tar-stream:{web}/s-0.tar")) == [0, 1]
    photos = open_source(f"{web}/photos/")
    assert {ref.id.removeprefix(web): (number_of(ref), ref.label) for ref in photos} == {
        "/photos/bee/y.png": (1, 0),
        "/photos/x.png": (0, -1),
    }


def test_what_is_not_there_is_one_sentence(web: str, memory: Any) -> None:
    pytest.importorskip("aiohttp")
    for spec, error, says in (
        ("memory://nowhere/*.png", DataError, "no image"),
        ("parquet:memory://nowhere/*.parquet", DataError, "No file matches"),
        (f"parquet:{web}/gone.parquet", DataError, "gone.parquet: there is no such file"),
        ("tar:http://127.0.0.1:9/a.tar", DataError, "127.0.0.1:9/a.tar: cannot be read"),
        ("what://ever/photos", ConfigError, "knows no what:// addresses"),
    ):
        with pytest.raises(error, match=says) as caught:
            open_source(spec)
        assert isinstance(caught.value, AdiosError)
        assert str(caught.value).count("\n") == 0
    (ref,) = open_source(f"{web}/gone.png")
    with pytest.raises(ImageError, match="no such file"):
        ref.read()


@pytest.mark.parametrize(("address", "package"), [("s3://b/photos", "s3fs"), ("gs://b/a.tar", "gcsfs")])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, address: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(DataError, match=f"pip install {package}"):
        open_source(address)


def test_no_network_means_no_addresses(monkeypatch: pytest.MonkeyPatch, memory: Any) -> None:
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    memory.pipe("/a.png", png(1))
    assert numbers(open_source("memory://a.png")) == [1]
    with pytest.raises(DataError, match="forbidden by ADIOS_OFFLINE"):
        open_source("s3://bucket/photos")


def test_numbered_files(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"s-{number:03}.tar").touch()
    found = expand(f"{tmp_path}/s-{{008..010}}.tar", ".tar")
    assert found == [f"{tmp_path}/s-{number}.tar" for number in ("008", "009", "010")]
