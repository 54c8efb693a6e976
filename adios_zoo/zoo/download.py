"""One archive over HTTP: resumed where it broke off, checked, and never waited for without end."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from adios_zoo.errors import DownloadError
from adios_zoo.models.card import FileFacts, facts_of
from adios_zoo.telling import on_terminal, progress_bar, tell
from adios_zoo.version import __version__
from adios_zoo.zoo.cache import writable
from adios_zoo.zoo.connection import connect_limit, opener, stall_limit

_TRIES = 4  # failures in a row that brought nothing new
_ALL_TRIES = 100  # failures in all
_STALLS = 3  # of them, those that cost a long wait
_PAUSE = 0.5  # seconds before the first new try; doubles
_MORE = "ADIOS_TIMEOUT gives it more"


class _BrokenOffError(Exception):
    """The transfer ended early; what was received is kept, and a new try may get the rest."""


class _StalledError(_BrokenOffError):
    """It ended because nothing came for long."""


class _LostError(_BrokenOffError):
    """What was received is no part of the file that the server has now."""


@dataclass(frozen=True)
class _Origin:
    """What a partial file is a part of.

    Attributes:
        address: asked for.
        validator: the server's ETag or date of it, by which a changed file is noticed.
        bytes: whole length, if the server states one.
    """

    address: str
    validator: str | None
    bytes: int | None


def download(address: str, target: Path, *, expected: FileFacts | None = None) -> None:
    """Fetch a zip archive; ``target`` appears whole or not at all.

    What has come is kept in ``target.part`` and completed by the next call, if the server still has the same file.

    Args:
        address: http or https.
        target: where the archive goes.
        expected: its length and hash, if they are known.

    Raises:
        DownloadError: one clause without a remedy: no connection, an answer other than the file, a transfer that
            breaks off repeatedly, a wrong length or hash, no zip archive.
        DataError: the disk is full or cannot be written to.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise DownloadError(f"{address} is neither http nor https")
    part = target.with_name(f"{target.name}.part")
    with writable(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    most, fruitless, stalls = _bytes(part), 0, 0
    for attempt in range(_ALL_TRIES):
        try:
            _transfer(address, part, expected)
            break
        except _BrokenOffError as error:
            fruitless = 0 if _bytes(part) > most else fruitless + 1
            most = max(most, _bytes(part))
            stalls += isinstance(error, _StalledError)
            if isinstance(error, _LostError):
                _discard(part)
            if fruitless == _TRIES or stalls == _STALLS or attempt == _ALL_TRIES - 1:
                raise DownloadError(str(error)) from error
            time.sleep(_PAUSE * 2**fruitless)
    try:
        _check(address, part, expected)
    except DownloadError:
        _discard(part)
        raise
    with writable(target):
        part.replace(target)
        _origin_file(part).unlink(missing_ok=True)


def _transfer(address: str, part: Path, expected: FileFacts | None) -> None:
    """Receive the archive, or what is missing of it; ``_BrokenOffError`` if a new try may get further."""
    origin = _origin_of(part, address)
    start = _bytes(part) if origin else 0
    if origin and start and start == origin.bytes:
        return
    with _answer(address, start, origin) as response:
        if response.status == 206 and not _continues(response, start, origin):
            raise _LostError(f"{address} answers with another part of the file than was asked for")
        if response.status != 206:  # a server may ignore ranges, or see that the file has changed
            start = 0
        if start == 0:
            origin = _described(address, response)
        total = origin.bytes if origin else None
        if expected and total not in (None, expected.bytes):
            raise DownloadError(f"{address} is {total} bytes long, and its card states {expected.bytes}")
        if response.headers.get_content_type() == "text/html":
            raise DownloadError(f"{address} answers with a web page instead of an archive")
        with writable(part):
            if start == 0:
                part.write_bytes(b"")
                _origin_file(part).write_text(json.dumps(asdict(cast("Any", origin))))
            file = part.open("ab")
        title = address.rsplit("/", 1)[-1]
        if not on_terminal():
            tell(f"adios: fetching {address}")
        with file, progress_bar(total=total, initial=start, unit="B", unit_scale=True, desc=title, show=None) as bar:
            while chunk := _chunk(response, address):
                with writable(part):
                    file.write(chunk)
                bar.update(len(chunk))
            with writable(part):
                file.flush()
                os.fsync(file.fileno())
    if total is not None and _bytes(part) < total:
        raise _BrokenOffError(f"{address} breaks off after {_bytes(part)} of {total} bytes")


def _answer(address: str, start: int, origin: _Origin | None) -> http.client.HTTPResponse:
    """The server's answer to a request for the archive from byte ``start`` on."""
    request = urllib.request.Request(address, headers={"User-Agent": f"adios-zoo/{__version__}"})
    if start and origin:
        request.add_header("Range", f"bytes={start}-")
        if origin.validator:
            request.add_header("If-Range", origin.validator)
    host = urlsplit(address).netloc
    try:
        return cast("http.client.HTTPResponse", opener().open(request))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # what it stated before was wrong, or the file is another one now
            raise _LostError(f"{address} breaks off after {start} bytes") from error
        message = f"{address} answers {error.code} ({error.reason})"
        if error.code in (408, 429, 500, 502, 503, 504):
            raise _BrokenOffError(message) from error
        raise DownloadError(message) from error
    except urllib.error.URLError as error:  # only of the connection, not of what came over it
        raise DownloadError(f"{host} cannot be reached ({_why(error.reason)})") from error
    except TimeoutError as error:
        raise _StalledError(f"{host} sends nothing for {stall_limit():g} s; {_MORE}") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, http.client.InvalidURL):
            raise DownloadError(f"{address} is no address ({error})") from error
        raise _BrokenOffError(f"{host} breaks the connection off ({_why(error)})") from error


def _chunk(response: http.client.HTTPResponse, address: str) -> bytes:
    try:
        return response.read1(1 << 18)
    except TimeoutError as error:
        raise _StalledError(f"{address} stalls: nothing for {stall_limit():g} s; {_MORE}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"{address} breaks off ({_why(error)})") from error


def _why(error: object) -> str:
    if isinstance(error, socket.gaierror):
        return "no network, or no host of that name"
    if isinstance(error, TimeoutError):
        return f"nothing within {connect_limit():g} s; {_MORE}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _continues(response: http.client.HTTPResponse, start: int, origin: _Origin | None) -> bool:
    """Whether a partial answer goes on from byte ``start`` of the same file."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    return bool(found and origin and int(found[1]) == start and origin.bytes in (None, int(found[2])))


def _described(address: str, response: http.client.HTTPResponse) -> _Origin:
    length = response.headers.get("Content-Length", "")
    etag = response.headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    return _Origin(address, validator, int(length) if length.isdecimal() else None)


def _check(address: str, part: Path, expected: FileFacts | None) -> None:
    facts = facts_of(part) if expected else None
    if facts and expected and facts.bytes != expected.bytes:
        raise DownloadError(f"{address} is {facts.bytes} bytes long, and its card states {expected.bytes}")
    if facts != expected:
        raise DownloadError(f"{address} has another SHA-256 than its card states")
    if not zipfile.is_zipfile(part):
        with part.open("rb") as file:
            page = file.read(512).lstrip().startswith(b"<")
        raise DownloadError(
            f"{address} answers with a web page instead of an archive" if page else f"{address} is no whole zip archive"
        )


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _origin_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _origin_of(part: Path, address: str) -> _Origin | None:
    """What the partial file is a part of, if that is what is asked for now and a change of it can be noticed."""
    try:
        origin = _Origin(**json.loads(_origin_file(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return origin if origin.address == address and (origin.validator or origin.bytes) else None


def _discard(part: Path) -> None:
    with writable(part):
        part.unlink(missing_ok=True)
        _origin_file(part).unlink(missing_ok=True)
