"""Opening a release: what is found, what is refused, and that nothing is written under a name of the archive's."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from adios_zoo.errors import ConfigError, IntegrityError
from adios_zoo.official import archive
from adios_zoo.official.archive import check_directory, open_release, shown

ARGS, CKPT = "a/run/args.json", "a/run/x-ep=1.ckpt"


def make(path: Path, members: dict[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def member(name: str, *, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize("names", [(ARGS, CKPT), ("args.json", "x.ckpt"), ("./a/b/c/args.json", "./a/b/c/x.ckpt")])
def test_members_are_found_by_their_place(names: tuple[str, str], tmp_path: Path) -> None:
    junk = {
        "__MACOSX/a/run/args.json": b"",
        "__MACOSX/a/run/._x.ckpt": b"",
        "a/": b"",
        "a/inner.zip": b"PK",
        "b.txt": b"",
    }
    path = make(tmp_path / "r.zip", {names[0]: b'{"N": 4}', names[1]: b"weights", **junk}, zipfile.ZIP_DEFLATED)
    with open_release(path) as release:
        assert release.args == {"N": 4}
        assert release.checkpoint.read_bytes() == b"weights"
        assert release.checkpoint.parent.stat().st_mode & 0o077 == 0
        kept = release.checkpoint
    assert not kept.exists()
    assert os.listdir(tmp_path) == ["r.zip"]  # noqa: PTH208


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_folder(depth: int, tmp_path: Path) -> None:
    run = tmp_path.joinpath(*"ab"[:depth])
    run.mkdir(parents=True, exist_ok=True)
    (run / "args.json").write_text("{}")
    (run / "x.ckpt").write_bytes(b"w")
    with open_release(tmp_path) as release:
        assert release.checkpoint == (run / "x.ckpt").resolve()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "not a release"),
        ({ARGS: b"{}"}, "not a release"),
        ({ARGS: b"{}", "a/other/x.ckpt": b""}, "not a release"),
        ({ARGS: b"{}", CKPT: b"", "a/run/y.ckpt": b""}, "2 .ckpt files"),
        ({ARGS: b"{}", CKPT: b"", "b/args.json": b"{}", "b/x.ckpt": b""}, "2 runs"),
        ({ARGS: b"{}", CKPT: b"", "../evil": b""}, "points out"),
        ({ARGS: b"{}", CKPT: b"", "a/../../evil": b""}, "points out"),
        ({ARGS: b"{}", CKPT: b"", "/etc/evil": b""}, "points out"),
        ({ARGS: b"{}", CKPT: b"", "C:/evil": b""}, "points out"),
        ({ARGS: b"{}", CKPT: b"", "..\\evil": b""}, "points out"),
        ({ARGS: b"{}", CKPT: b"", member("a/link", mode=stat.S_IFLNK | 0o777): b"/etc/passwd"}, "a link"),
        ({ARGS: b"{}", member(CKPT, mode=stat.S_IFLNK | 0o777): b"/etc/passwd"}, "a link"),
        ({ARGS: b"{}", CKPT: b"", member("a/fifo", mode=stat.S_IFIFO): b""}, "a link or a device"),
        ({ARGS: b"{}", CKPT: b"", "a//run/args.json": b"{}"}, "there twice"),
        ({ARGS: b"[]", CKPT: b""}, "no settings"),
        ({ARGS: b"{", CKPT: b""}, "not JSON"),
        ({ARGS: b"\xff\xfe\xff", CKPT: b""}, "not JSON"),
        ({ARGS: b"[" * 100_000, CKPT: b""}, "not JSON"),
        ({ARGS: b" " * (archive.MAX_ARGS + 1), CKPT: b""}, "more than the"),
        ({ARGS: b"{}", CKPT: b"", "x\nadios: fine\x1b[2J/..": b""}, "points out"),
        ({ARGS: b"{}", CKPT: b""} | {f"a/{i}": b"" for i in range(archive.MAX_MEMBERS)}, "members"),
        ({ARGS: b"{}", CKPT: b""} | {f"{i}{'x' * 60_000}": b"" for i in range(20)}, "bytes of member names"),
    ],
)
def test_refused(members: dict[str | zipfile.ZipInfo, bytes], words: str, tmp_path: Path) -> None:
    path = make(tmp_path / "r.zip", members)
    with pytest.raises(IntegrityError, match=words) as caught, open_release(path):
        raise AssertionError
    assert str(caught.value).isprintable()
    assert os.listdir(tmp_path) == ["r.zip"]  # noqa: PTH208


def test_bombs(tmp_path: Path) -> None:
    path = make(tmp_path / "r.zip", {ARGS: b"{}", CKPT: bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(IntegrityError, match="more than 100 times"), open_release(path):
        raise AssertionError
    path = make(tmp_path / "r.zip", {ARGS: b"{}", CKPT: b"x"}, zipfile.ZIP_LZMA)
    with pytest.raises(IntegrityError, match="other than deflate"), open_release(path):
        raise AssertionError


@pytest.mark.parametrize("size", [5, 20, 1 << 20, 0xFFFF_FFF0])
def test_sizes_that_lie(size: int, tmp_path: Path) -> None:
    path = make(tmp_path / "r.zip", {ARGS: b"{}", CKPT: os.urandom(1 << 16)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\1\2")  # the checkpoint's entry in the directory
    struct.pack_into("<L", data, at + 24, size)
    path.write_bytes(data)
    with pytest.raises(IntegrityError), open_release(path):
        raise AssertionError


def test_passwords(tmp_path: Path) -> None:
    path = make(tmp_path / "r.zip", {ARGS: b"{}", CKPT: b"x"})
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="encrypted"), open_release(path):
        raise AssertionError


def test_damage(tmp_path: Path) -> None:
    path = make(tmp_path / "r.zip", {ARGS: b"{}", CKPT: b"weights" * 100})
    whole = path.read_bytes()
    for cut in (0, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(IntegrityError, match="whole zip archive"), open_release(path):
            raise AssertionError
    path.write_bytes(whole.replace(b"weights", b"WEIGHTS", 1))
    with pytest.raises(IntegrityError, match=r"damaged zip archive \(Bad CRC"), open_release(path):
        raise AssertionError


def test_links_out_of_a_folder(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    (tmp_path / "secret").write_text("{}")
    (run / "x.ckpt").write_bytes(b"")
    (run / "args.json").symlink_to("../secret")
    with pytest.raises(IntegrityError, match="link out of the release"), open_release(run):
        raise AssertionError
    (run / "args.json").unlink()
    (run / "args.json").symlink_to("args.json")
    with pytest.raises(IntegrityError, match="cannot be read"), open_release(run):
        raise AssertionError
    (run / "args.json").unlink()
    (run / "settings").write_text("{}")
    (run / "args.json").symlink_to("settings")
    with open_release(run) as release:
        assert release.args == {}
    (run / "x.ckpt").unlink()
    os.mkfifo(run / "x.ckpt")
    with pytest.raises(IntegrityError, match="no plain file"), open_release(run):
        raise AssertionError


def test_a_folder_of_very_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    for i in range(30):
        (tmp_path / str(i)).write_text("")
    with pytest.raises(IntegrityError, match="too many files"), open_release(tmp_path):
        raise AssertionError


def test_nothing_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing", "fifo"):
        with pytest.raises(ConfigError, match="no release"), open_release(tmp_path / name):
            raise AssertionError


def test_the_64_bit_form_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    path = make(tmp_path / "r.zip", {ARGS: b"{}", CKPT: b"w"})
    assert b"PK\6\6" in path.read_bytes()
    check_directory(path, 1000)
    with pytest.raises(IntegrityError, match="bytes of member names"):
        check_directory(path, 10)
    with open_release(path) as release:
        assert release.checkpoint.read_bytes() == b"w"


def test_names_in_messages_are_harmless() -> None:
    assert shown("a\n\x1b[31m\u202e") == r"'a\n\x1b[31m\u202e'"
    assert len(shown("x" * 10_000)) < 100
