"""Tar files: by number and in passing, labels, compression, worker processes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.sources import tar
from adios_zoo.sources.open import open_source, open_stream
from adios_zoo.sources.source import Source, Stream
from tests.sources.small import Numbers, number_of, numbers, png

Members = Mapping[str, "bytes | str"] | Iterable[tuple[str, "bytes | str"]]


def write_tar(path: Path, members: Members, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items() if isinstance(members, Mapping) else members:
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
        assert numbers(refs) == [90, 0, 1, 2, 3, 4]  # two images are never one sample
        assert [ref.label for ref in refs] == [4, 4, -1, -1, 7, 8]


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


def both(path: Path) -> list[list[tuple[int, int]]]:
    """(number, label) of each image: by number, from first to last, and in passing."""
    source = open_source(path)
    streams = ([source[i] for i in range(len(source))], source, open_stream(f"tar-stream:{path}"))
    return [[(number_of(ref), ref.label) for ref in stream] for stream in streams]


@pytest.mark.parametrize(
    "name",
    [
        "2024-05-01 10.{0:02}.{0:02}.png",
        "scan.v1.{:04}.png",
        "St. Peter {}.png",
        "Screenshot at 8.00.{}.png.png",
        "{}.left.png",
        "a.b/c.d {}.JPG",
    ],
)
def test_every_image_comes_out_whatever_its_name(tmp_path: Path, name: str) -> None:
    names = [name.format(number) for number in range(25)]
    path = write_tar(tmp_path / "a.tar", [(name, png(number)) for number, name in enumerate(names)])
    assert both(path) == [[(number, -1) for number in range(25)]] * 3
    assert [ref.id for ref in open_source(path)] == [f"{path}/{name}" for name in names]
    labelled = [(n, c) for i, name in enumerate(names) for n, c in ((name, png(i)), (name[:-4] + ".cls", str(i)))]
    assert both(write_tar(tmp_path / "b.tar", labelled)) == [[(number, number) for number in range(25)]] * 3


def test_two_images_of_a_sample_have_its_label(tmp_path: Path) -> None:
    members = [m for i in range(3) for m in ((f"{i}.l.png", png(i)), (f"{i}.r.png", png(i + 9)), (f"{i}.cls", f"{i}"))]
    expected = [(number, i) for i in range(3) for number in (i, i + 9)]
    assert both(write_tar(tmp_path / "a.tar", members)) == [expected] * 3


@pytest.mark.parametrize("end", [b"", b"signed by nobody" * 100], ids=["whole", "with something behind"])
def test_tar_files_put_one_behind_the_other(tmp_path: Path, end: bytes) -> None:
    first, second = shard(tmp_path / "a.tar", 0, 1, 2), shard(tmp_path / "b.tar", 3, 4, 5)
    path = tmp_path / "all.tar"
    path.write_bytes(first.read_bytes() + second.read_bytes() + end)
    assert both(path) == [[(i, i % 3) for i in range(6)]] * 3
    whole = path.read_bytes()
    border = len(first.read_bytes())
    for start, length in ((border + 2048, 512), (border, 100)):  # a header within the second, and the name of its first
        path.write_bytes(whole[:start] + b"?" * length + whole[start + length :])
        for kind in ("tar", "tar-stream"):
            with pytest.raises(DataError, match="not a readable tar file"):
                list(open_stream(f"{kind}:{path}"))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_compressed_files_put_one_behind_the_other(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    first, second = shard(tmp_path / "a.tar", 0, 1, 2), shard(tmp_path / "b.tar", 3, 4, 5)
    path = tmp_path / "all.tgz"
    path.write_bytes(compress(first.read_bytes()) + compress(second.read_bytes()))
    assert numbers(open_stream(f"tar-stream:{path}")) == list(range(6))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a readable tar file"):
        list(open_stream(f"tar-stream:{path}"))


def test_members_of_one_name_all_come_out(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("x.png", png(0)), ("y.png", png(1)), ("x.png", png(2)), ("x.png", png(3))])
    assert both(path) == [[(i, -1) for i in range(4)]] * 3
    for stream in (open_stream(path), open_stream(f"tar-stream:{path}")):
        assert [ref.id.rpartition("/")[2] for ref in stream] == ["x.png", "y.png", "x.png#2", "x.png#3"]


def test_labels_stand_anywhere_in_a_stream_just_behind_or_before(tmp_path: Path) -> None:
    images, labels = [(f"{i}.png", png(i)) for i in range(3)], [(f"{i}.cls", str(i + 5)) for i in range(3)]
    expected = [(i, i + 5) for i in range(3)]
    assert both(write_tar(tmp_path / "before.tar", labels + images)) == [expected] * 3
    after = write_tar(tmp_path / "after.tar", images + labels)
    assert both(after) == [expected, expected, [(i, -1) for i in range(3)]]
    turned = write_tar(tmp_path / "again.tar", [(f"{i}.png", png(i + 3)) for i in range(3)] + [("0.cls", "1")])
    after.write_bytes(after.read_bytes() + turned.read_bytes())
    assert both(after)[0] == [*expected, (3, 1), (4, 6), (5, 7)]  # those of its own turn, else of the file


def test_labels_beyond_64_bits_are_names(tmp_path: Path) -> None:
    members = [m for i in range(3) for m in ((f"{i}.png", png(i)), (f"{i}.cls", str(2**70 - i)))]
    path = write_tar(tmp_path / "a.tar", members)
    assert open_source(path).classes == tuple(str(2**70 - i) for i in (2, 1, 0))
    assert [[label for _, label in found] for found in both(path)] == [[2, 1, 0], [2, 1, 0], [-1, -1, -1]]
    deep = write_tar(tmp_path / "b.tar", {"0.png": png(0), "0.json": "[" * 500_000})
    assert both(deep) == [[(0, -1)]] * 3


def add(file: tarfile.TarFile, name: str, kind: bytes, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    file.addfile(info)


def test_links_are_the_images_that_they_lead_to_or_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"./d/0.png": png(0), "blob": png(1)})
    with tarfile.open(path, "a") as file:
        add(file, "hard.png", tarfile.LNKTYPE, "./d/0.png")
        add(file, "e/soft.png", tarfile.SYMTYPE, "../blob")
        add(file, "chain.png", tarfile.SYMTYPE, "e/soft.png")
        add(file, "out.png", tarfile.SYMTYPE, "/etc/0.png")
        add(file, "round.png", tarfile.SYMTYPE, "round.png")
        add(file, "gone.png", tarfile.LNKTYPE, "gone/0.png")
        add(file, "pipe.png", tarfile.FIFOTYPE)
        add(file, "folder.png", tarfile.DIRTYPE)
    source = open_source(path)
    source = pickle.loads(pickle.dumps(source))
    for refs in ([source[i] for i in range(len(source))], list(source)):
        assert numbers(refs[:4]) == [0, 0, 1, 1]
        assert [reason(ref) for ref in refs[4:]] == [
            ("out.png", "a link to /etc/0.png, which is not in the tar file"),
            ("round.png", "a link to round.png, which is not in the tar file"),
            ("gone.png", "a link to gone/0.png, which is not in the tar file"),
            ("pipe.png", "not a regular file"),
        ]
    good, *passed, pipe = open_stream(f"tar-stream:{path}")
    assert (number_of(good), reason(pipe)) == (0, ("pipe.png", "not a regular file"))
    assert len(passed) == 6
    assert all("cannot go back to; unpack the tar file" in reason(ref)[1] for ref in passed)


def reason(ref: ImageRef) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        ref.read()
    return ref.id.rpartition("/")[2], caught.value.reason


def test_what_fails_is_remembered_with_a_large_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tar, "_LARGE", 1)
    path = write_tar(tmp_path / "a.tar", {"0.png": png(0)})
    with tarfile.open(path, "a") as file:
        add(file, "out.png", tarfile.SYMTYPE, "../0.png")
    first = [reason(open_source(path)[1]) for _ in range(2)]
    assert first[0] == first[1] == ("out.png", "a link to ../0.png, which is not in the tar file")


def test_a_stream_reads_no_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "LARGEST", 1000)
    path = write_tar(tmp_path / "a.tgz", {"0.png": bytes(5000), "1.png": png(1)}, "w:gz")
    bomb, good = open_stream(f"tar-stream:{path}")
    assert reason(bomb) == ("0.png", "too large to unpack safely: 5000 bytes")
    assert number_of(good) == 1


def test_a_name_that_begins_as_a_compressed_file(tmp_path: Path) -> None:
    assert both(write_tar(tmp_path / "a.tar", {"BZh1.png": png(4)})) == [[(4, -1)]] * 3
