"""Zip files: by number, labels, and what is encrypted, damaged or a bomb."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import fsspec
import pytest
from torch.utils.data import DataLoader

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError, ImageRef
from adios_zoo.sources import zip as zip_module
from adios_zoo.sources.open import join_streams, open_source, open_stream
from adios_zoo.sources.source import Source
from tests.sources.small import Numbers, number_of, numbers, png
from tests.sources.test_tar import shard


def write_zip(
    path: Path, members: Iterable[tuple[str | zipfile.ZipInfo, bytes | str]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def reason(ref: ImageRef) -> str:
    with pytest.raises(ImageError) as caught:
        ref.read()
    return caught.value.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_every_image_by_number_and_in_order(tmp_path: Path, method: int) -> None:
    names = ["2024-05-01 10.01.02.png", "2024-05-01 10.01.09.png", "d/caf\u00e9.PNG", "../../x.png", "/etc/y.png"]
    members = [(name, png(number)) for number, name in enumerate(names)]
    hidden = [("d/", b""), ("notes.txt", "x"), ("__MACOSX/d/._a.png", b"x"), (".b.png", b"x")]
    path = write_zip(tmp_path / "a.zip", members + hidden, method)
    for source in (open_source(path), open_source(f"zip:{tmp_path}"), open_source(f"zip:{tmp_path}/*.zip")):
        assert [ref.id for ref in source] == [f"{path}/{name}" for name in names]
        assert numbers(source) == [number_of(source[i]) for i in range(5)] == list(range(5))
        assert numbers(source.iterate(1, 3)) == [1, 2]
        assert number_of(pickle.loads(pickle.dumps(source))[4]) == 4
    encoded = open_source(path)[1].encoded
    assert encoded is not None
    assert encoded() == png(1)


def test_labels_and_worker_processes(tmp_path: Path) -> None:
    members = [m for i in range(6) for m in ((f"{i}.png", png(i)), (f"{i}.cls", str(i % 3)))]
    loader = DataLoader(Numbers(open_source(write_zip(tmp_path / "a.zip", members))), batch_size=2, num_workers=2)
    found = [(int(n), int(label)) for batch in loader for n, label in zip(*batch, strict=True)]
    assert found == [(i, i % 3) for i in range(6)]
    named = [("0.png", png(0)), ("1.png", png(1)), ("0.cls", "cow"), ("1.json", '{"label": "ant"}')]
    source = open_source(write_zip(tmp_path / "b.zip", named))
    assert (source.classes, [ref.label for ref in source]) == (("ant", "cow"), [1, 0])


def test_members_of_one_name_and_links(tmp_path: Path) -> None:
    def link(name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return info

    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(
            tmp_path / "a.zip",
            [("x.png", png(0)), ("x.png", png(1)), (link("d/l.png"), "../x.png"), (link("m.png"), "/etc/x.png")],
        )
    first, second, linked, gone = open_source(path)
    assert [number_of(ref) for ref in (first, second, linked)] == [0, 1, 1]
    assert second.id == f"{path}/x.png#2"
    assert reason(gone) == "a link to /etc/x.png, which is not in the zip file"


def changed(path: Path, change: Callable[[bytearray, int, int], None]) -> Source:
    """The zip file with the first member's header and entry in the directory changed."""
    data = bytearray(path.read_bytes())
    change(data, 0, data.index(b"PK\x01\x02"))
    path.write_bytes(data)
    return open_source(path)


def encrypt(data: bytearray, header: int, entry: int) -> None:
    data[header + 6] |= 1
    data[entry + 8] |= 1


def other_method(data: bytearray, header: int, entry: int) -> None:
    data[header + 8] = data[entry + 10] = 9


def damage(data: bytearray, header: int, entry: int) -> None:
    data[header + 30 + 5 + 20] ^= 255


def elsewhere(data: bytearray, header: int, entry: int) -> None:
    data[entry + 42] = 7


def huge(data: bytearray, header: int, entry: int) -> None:
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**31)


def longer_than_it_says(data: bytearray, header: int, entry: int) -> None:
    data[entry + 24 : entry + 28] = struct.pack("<I", 3)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (encrypt, "encrypted; unpack"),
        (other_method, "method 9"),
        (damage, "damaged"),
        (elsewhere, "damaged: there is no member"),
        (huge, "too large to unpack safely: 2147483648 bytes"),
        (longer_than_it_says, "damaged"),
    ],
)
def test_what_cannot_be_read_fails_by_name(
    tmp_path: Path, method: int, change: Callable[[bytearray, int, int], None], says: str
) -> None:
    path = write_zip(tmp_path / "a.zip", [("0.png", png(0)), ("1.png", png(1)), ("2.png", b""), ("3.png", "x")], method)
    bad, good, empty, text = changed(path, change)
    assert bad.id == f"{path}/0.png"
    assert says in reason(bad)
    assert number_of(good) == 1
    assert "empty" in reason(empty)
    assert "not an image" in reason(text)


def test_a_bomb_is_unpacked_no_further_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "a.zip", [("0.png", bytes(50_000_000)), ("1.png", png(1))])
    (bomb, good) = changed(path, longer_than_it_says)
    assert "damaged" in reason(bomb)
    assert number_of(good) == 1
    monkeypatch.setattr(zip_module, "LARGEST", 1_000_000)
    write_zip(path, [("0.png", bytes(50_000_000))])
    assert reason(open_source(path)[0]) == "too large to unpack safely: 50000000 bytes"


def test_a_file_that_is_no_zip_file(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", [("0.png", png(0))]).read_bytes()
    for name, content in {"cut": whole[:-30], "text": b"no zip", "empty": b"", "directory": whole[:-60]}.items():
        (tmp_path / f"{name}.zip").write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}.zip is not a readable zip file: .*\.$"):
            open_source(tmp_path / f"{name}.zip")
    with pytest.raises(DataError, match="no images in these zip files"):
        open_source(write_zip(tmp_path / "none.zip", [("a.txt", "x")]))
    with pytest.raises(DataError, match="No file matches"):
        open_source(tmp_path / "gone.zip")


def test_the_fingerprint_is_of_the_images(tmp_path: Path) -> None:
    a, b, c = (write_zip(tmp_path / f"{n}.zip", [("0.png", png(m))]) for n, m in (("a", 0), ("b", 0), ("c", 1)))
    assert open_source(a).fingerprint() == open_source(b).fingerprint() != open_source(c).fingerprint()


def test_packed_files_named_directly_and_among_others(tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "a.ZIP", [("0.png", png(0)), ("1.png", png(1))])
    shards = [shard(tmp_path / f"b.{end}", 2, 3, mode=f"w:{end[-2:]}") for end in ("tar.gz", "tar.xz")]
    short = shard(tmp_path / "c.tgz", 2, 3, mode="w:gz")
    for path in (*shards, short):
        assert numbers(open_stream(path)) == [2, 3]
        with pytest.raises(DataError, match="is a stream"):
            open_source(path)
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(9))
    assert numbers(join_streams([photo, zipped, short])) == [9, 0, 1, 2, 3]
    folder = tmp_path / "photos.zip"
    folder.mkdir()
    (folder / "5.png").write_bytes(png(5))
    assert numbers(open_source(folder)) == [5]


def test_at_an_address(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("0.png", png(6))
    files.pipe("/z/a.zip", content.getvalue())
    try:
        assert numbers(open_source("memory://z/a.zip")) == [6]
    finally:
        files.rm("/z", recursive=True)
