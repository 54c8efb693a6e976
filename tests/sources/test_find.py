from __future__ import annotations

import codecs
import errno
import os
from pathlib import Path

import pytest

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError, path_id
from adios_zoo.sources import find as find_module
from adios_zoo.sources import index
from adios_zoo.sources.find import find
from adios_zoo.sources.open import join_streams, open_source
from tests.sources.small import number_of, numbers, png


def paths(source: str | Path) -> list[Path]:
    found = find(source)
    return [Path(found.base + name) for name in found.names]


def test_a_folder_is_taken_in_name_order(tmp_path: Path) -> None:
    for name in (
        "b.PNG",
        "a/z.jpg",
        "a-1.jpg",
        "c.txt",
        "d.h5",
        ".hidden.jpg",
        ".cache/e.jpg",
        "broken.jpeg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in paths(tmp_path)]
    assert found == ["a-1.jpg", "a/z.jpg", "b.PNG", "broken.jpeg"]


def test_globs_lists_files_and_sequences(tmp_path: Path) -> None:
    for name in ("2.jpg", "10.jpg", "sub/1.jpg", "odd[1].jpg", "raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(source: str | Path) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in paths(source)]

    assert names(str(tmp_path / "*.jpg")) == ["10.jpg", "2.jpg", "odd[1].jpg"]
    assert names(str(tmp_path / "**" / "*.jpg")) == ["10.jpg", "2.jpg", "odd[1].jpg", "sub/1.jpg"]
    assert names(tmp_path / "odd[1].jpg") == ["odd[1].jpg"]
    assert names(tmp_path / "raw") == ["raw"]
    listed = tmp_path / "list.txt"
    listed.write_text("\ufeff2.jpg\r\n\n# a comment\nsub/1.jpg\nmissing.jpg\n10.jpg", encoding="utf-8")
    assert names(listed) == ["2.jpg", "sub/1.jpg", "missing.jpg", "10.jpg"]


@pytest.mark.parametrize("source", ["nothing", "*.jpg", "empty", "empty.txt"])
def test_nothing_found_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.txt").touch()
    with pytest.raises(DataError) as caught:
        find(source)
    assert str(caught.value).endswith(".")


def test_names_that_are_no_utf8_become_escapes() -> None:
    assert path_id(os.fsdecode(b"caf\xe9\n.jpg")) == "caf\\xe9\\n.jpg"
    assert path_id("caf\u00e9.jpg") == "caf\u00e9.jpg"


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as large and as unchanged for long, and an empty cache."""
    monkeypatch.setattr(find_module, "_LARGE", 3)
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "home"))
    for name in ("a/1.jpg", "a/2.jpg", os.fsdecode(b"b/caf\xe9.jpg"), "b/deep/3.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    age(tmp_path / "photos")
    return tmp_path / "photos"


def age(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        os.utime(place, ns=(10**18, 10**18))


def scans(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The folders that are walked from now on."""
    walked: list[object] = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top, **options: walked.append(top) or walk(top, **options))
    return walked


def test_the_names_of_a_large_folder_are_remembered(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find(large)
    walked = scans(monkeypatch)
    again = find(large)
    assert not walked
    assert list(again.names) == list(first.names) == ["a/1.jpg", "a/2.jpg", "b/caf\udce9.jpg", "b/deep/3.jpg"]
    assert (again.base, again.in_folder) == (f"{large}/", True)


@pytest.mark.parametrize("change", ["more", "less", "renamed", "gone"])
def test_any_change_of_a_folder_is_seen(large: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    find(large)
    if change == "more":
        (large / "b" / "deep" / "4.jpg").touch()
    elif change == "less":
        (large / "a" / "1.jpg").unlink()
    elif change == "renamed":
        (large / "a" / "1.jpg").rename(large / "a" / "0.jpg")
    else:
        (large / "b" / "deep" / "3.jpg").unlink()
        (large / "b" / "deep").rmdir()
    walked = scans(monkeypatch)
    names = list(find(large).names)
    assert walked
    assert names == sorted(path.relative_to(large).as_posix() for path in large.rglob("*.jpg"))


def test_what_changed_just_now_or_is_small_is_not_remembered(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (large / "a" / "9.jpg").touch()
    find(large)
    assert not (large.parent / "home").exists()
    age(large)
    monkeypatch.setattr(find_module, "_LARGE", 6)
    find(large)
    assert not (large.parent / "home").exists()


def test_a_cache_that_is_damaged_or_cannot_be_written_changes_nothing(large: Path) -> None:
    names = list(find(large).names)
    (kept,) = (large.parent / "home" / "sources").iterdir()
    for damage in (b"", b"PK", kept.read_bytes()[:300]):
        kept.write_bytes(damage)
        assert list(find(large).names) == names
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.touch()  # a file where the folder should be
    assert list(find(large).names) == names


def test_names_are_a_sequence_of_text() -> None:
    texts = ["a", "", "caf\u00e9", "b\udce9", "last"]
    names = index.Names.of(texts)
    assert [len(names), list(names), names[-1], names[1:3]] == [5, texts, "last", texts[1:3]]
    with pytest.raises(IndexError):
        names[5]
    assert list(index.Names.of([])) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lists_in_every_encoding_of_windows(tmp_path: Path, encoding: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes("1.jpg\r\ncaf\u00e9.jpg\r\n\r\n# a comment\r\nd/\u4e2d.jpg\r\n".encode(encoding))
    assert paths(listed) == [tmp_path / name for name in ("1.jpg", "caf\u00e9.jpg", "d/\u4e2d.jpg")]
    big = codecs.BOM_UTF16_BE + "caf\u00e9.jpg\n".encode("utf-16-be")
    listed.write_bytes(big)
    assert paths(listed) == [tmp_path / "caf\u00e9.jpg"]


def test_a_line_that_begins_as_a_comment_may_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "#1.jpg").touch()
    (tmp_path / "#d").mkdir()
    (tmp_path / "#d" / "2.jpg").touch()
    listed = tmp_path / "list.txt"
    listed.write_text("#1.jpg\n# no file.jpg\n#d/2.jpg\n#3.jpg\n")
    assert paths(listed) == [tmp_path / "#1.jpg", tmp_path / "#d" / "2.jpg"]


def test_folders_with_brackets_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "trip [2023]" / "day [1]"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).touch()
    both = [folder / "a.jpg", folder / "b.jpg"]
    for source in (folder, f"{folder}/*.jpg", f"{folder}/[ab].jpg", f"{tmp_path}/trip [2023]/**/*.jpg"):
        assert paths(source) == both
    monkeypatch.chdir(tmp_path)
    assert paths("trip [2023]/*/*.jpg") == [path.relative_to(tmp_path) for path in both]
    assert paths("*/*/a.jpg") == [both[0].relative_to(tmp_path)]
    (tmp_path / "trip 2").mkdir()
    (tmp_path / "trip 2" / "c.jpg").touch()
    assert paths("trip [0-9]/*.jpg") == [Path("trip 2/c.jpg")]


@pytest.mark.parametrize("why", [errno.EACCES, errno.EIO])
def test_a_sub_folder_that_cannot_be_listed_is_named_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    closed = ("lost+found", "ant/closed")
    for name in (*closed, "bee"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("ant/1.png", "bee/2.png"):
        (tmp_path / name).write_bytes(png(int(Path(name).stem)))
    scandir = os.scandir

    def refusing(path: str | Path) -> object:
        if str(path) in {str(tmp_path / name) for name in closed}:
            raise OSError(why, os.strerror(why), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    source = open_source(tmp_path)
    assert source.classes == ("ant", "bee")
    first, in_ant, in_bee, last = (source[position] for position in (0, 1, 2, 3))
    assert numbers([first, in_bee]) == [1, 2]
    for ref, name in ((in_ant, "ant/closed"), (last, "lost+found")):
        assert ref.id == f"{tmp_path}/{name}"
        with pytest.raises(ImageError) as caught:
            ref.read()
        assert caught.value.reason == f"a folder that cannot be listed ({os.strerror(why)})"
    closed = (".",)
    with pytest.raises(DataError, match="cannot list this folder"):
        find(tmp_path)


def test_an_empty_caption_among_photographs_is_a_failure_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").write_text(" \n")
    good, *captions = join_streams(sorted(tmp_path.iterdir()))
    assert number_of(good) == 1
    for ref, name, reason in zip(captions, ("a.txt", "b.txt"), ("the file is empty", "not an image"), strict=True):
        assert ref.id == str(tmp_path / name)
        with pytest.raises(ImageError, match=reason):
            ref.read()
    for name in ("a.txt", "b.txt"):
        with pytest.raises(DataError, match="the list names no image"):
            open_source(tmp_path / name)
