"""The HTTP part: a server that breaks off, lies, refuses, hangs."""

from __future__ import annotations

import io
import os
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adios_zoo.errors import AdiosError, ConfigError, DataError, DownloadError
from adios_zoo.models.card import FileFacts, facts_of
from adios_zoo.zoo import download as module
from adios_zoo.zoo.download import download
from tests.server import Files, running


def archive(size: int = 300_000) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("weights.bin", os.urandom(size))
    return out.getvalue()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    monkeypatch.setenv("ADIOS_TIMEOUT", "0.3")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = Files(**{"/a.zip": archive()})
    with running(served) as served.address:
        yield served


@pytest.fixture
def get(files: Files, tmp_path: Path):
    target = tmp_path / "downloads" / "a.zip"

    def run(expected: FileFacts | None = None, name: str = "a.zip") -> bytes:
        download(f"{files.address}/{name}", target, expected=expected)
        return target.read_bytes()

    run.target = target
    return run


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_plain(files: Files, get, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert get() == files.files["/a.zip"]
    finally:
        os.umask(before)
    assert left(get.target.parent) == ["a.zip"]
    assert get.target.stat().st_mode & 0o777 == 0o640
    assert get(facts_of(get.target)) == files.files["/a.zip"]


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_a_transfer_that_breaks_off_is_resumed(files: Files, get, pieces: int) -> None:
    files.script = ["break:20000"] * pieces
    assert get() == files.files["/a.zip"]
    assert [asked for _, asked in files.requests] == [None, *(f"bytes={20000 * i}-" for i in range(1, pieces + 1))]


def test_a_later_call_resumes(files: Files, get) -> None:
    files.script = ["break:1000", *["break:0"] * 4]
    with pytest.raises(DownloadError, match="breaks off after 1000 of"):
        get()
    assert left(get.target.parent) == ["a.zip.part", "a.zip.part.json"]
    del files.requests[:]
    assert get() == files.files["/a.zip"]
    assert files.requests == [("/a.zip", "bytes=1000-")]
    assert left(get.target.parent) == ["a.zip"]


def test_a_file_that_changed_meanwhile_starts_anew(files: Files, get) -> None:
    files.script = ["break:1000", *["break:0"] * 4]
    with pytest.raises(DownloadError):
        get()
    files.files["/a.zip"] = archive()
    assert get() == files.files["/a.zip"]


@pytest.mark.parametrize("word", ["whole", "unnamed", "part"])
def test_servers_without_ranges(files: Files, get, word: str) -> None:
    files.script = ["break:1000", word]
    assert get() == files.files["/a.zip"]
    files.script = ["unnamed"]
    assert get() == files.files["/a.zip"]


def test_a_whole_partial_file_needs_no_call(files: Files, get) -> None:
    get()
    part = get.target.with_name("a.zip.part")
    origin = module._Origin(f"{files.address}/a.zip", '"x"', len(files.files["/a.zip"]))
    get.target.rename(part)
    module._origin_file(part).write_text(module.json.dumps(module.asdict(origin)))
    del files.requests[:]
    assert get() == files.files["/a.zip"]
    assert not files.requests


@pytest.mark.parametrize(
    ("word", "words", "calls"),
    [
        ("404", r"answers 404 \(Not Found\)", 1),
        ("403", r"answers 403 \(Forbidden\)", 1),
        ("500", r"answers 500 \(Internal Server Error\)", 4),
        ("html", "a web page instead of an archive", 1),
        ("html:application/zip", "a web page instead of an archive", 1),
        ("short", "no whole zip archive", 1),
        ("long", "breaks off after", 8),
        ("break:100", "breaks off after", 40),
        ("hang", "sends nothing for 0.3 s; ADIOS_TIMEOUT", 3),
        ("stall:100", "stalls: nothing for 0.3 s; ADIOS_TIMEOUT", 3),
        ("to:ftp://127.0.0.1/a.zip", "not followed", 1),
        ("to:file:///etc/hostname", "302", 1),
    ],
)
def test_bad_answers(files: Files, get, word: str, words: str, calls: int) -> None:
    files.always = word
    if word == "break:100":
        files.files["/a.zip"] = files.files["/a.zip"][:1000]
        words = "no whole zip archive"  # a hundred bytes a time, until it is all there
    start = time.monotonic()
    with pytest.raises(DownloadError, match=words) as caught:
        get()
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    assert len(files.requests) <= calls
    assert not get.target.exists()
    files.always = None
    files.files["/a.zip"] = archive()
    assert get() == files.files["/a.zip"]  # nothing that was left behind is in the way


def test_redirects_are_followed(files: Files, get) -> None:
    files.files["/b.zip"] = files.files["/a.zip"]
    files.script = ["to:/b.zip", "break:5000", "to:/b.zip"]
    assert get() == files.files["/a.zip"]
    assert files.requests[-1] == ("/b.zip", "bytes=5000-")


def test_errors_that_pass(files: Files, get) -> None:
    files.script = ["503", "429", "hang"]
    assert get() == files.files["/a.zip"]


def test_wrong_length_and_hash(files: Files, get) -> None:
    content = files.files["/a.zip"]
    with pytest.raises(DownloadError, match=f"is {len(content)} bytes long, and its card states 7"):
        get(FileFacts(7, "0" * 64))
    with pytest.raises(DownloadError, match="another SHA-256"):
        get(FileFacts(len(content), "0" * 64))
    files.script = ["unnamed"]
    with pytest.raises(DownloadError, match="bytes long, and its card states 7"):
        get(FileFacts(7, "0" * 64))
    assert not left(get.target.parent)


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.parametrize("host", [f"127.0.0.1:{closed_port()}", "nowhere.invalid"], ids=["closed", "nowhere"])
def test_no_network_is_found_out_at_once(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with pytest.raises(DownloadError, match=f"{host} cannot be reached"):
        download(f"http://{host}/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - start < 2


def test_name_servers_and_hosts_that_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_TIMEOUT", "0.3")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    with pytest.raises(DownloadError, match=r"example.org cannot be reached \(nothing within 0.3 s; ADIOS_TIMEOUT"):
        download("http://example.org/a.zip", tmp_path / "a.zip")

    def silent(self: socket.socket, _: object) -> None:
        time.sleep(self.gettimeout() or 9)
        raise TimeoutError

    where = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))] * 2
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: where)
    monkeypatch.setattr(socket.socket, "connect", silent)
    start = time.monotonic()
    with pytest.raises(DownloadError, match="nothing within"):
        download("https://example.org/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/a.zip", "file:///etc/hostname", "/a.zip", "http://127.0.0.1:x/a"])
def test_other_addresses_are_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(AdiosError):
        download(address, tmp_path / "a.zip")


def test_no_place_to_write(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="ADIOS_HOME"):
        download(f"{files.address}/a.zip", tmp_path / "file" / "a.zip")
    assert not files.requests


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf", "nan"])
def test_a_wrong_time_limit(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_TIMEOUT", text)
    with pytest.raises(ConfigError, match="ADIOS_TIMEOUT"):
        download("http://127.0.0.1:1/a.zip", tmp_path / "a.zip")
