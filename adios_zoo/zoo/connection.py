"""Connections that come about quickly or not at all, and do not wait for ever."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from adios_zoo.errors import ConfigError, DownloadError

T = TypeVar("T")


def connect_limit() -> float:
    """Seconds to find and reach a host: long for a network that is there, short for one that is not."""
    return _timeout() or 2.0


def stall_limit() -> float:
    """Seconds to wait for the next byte."""
    return _timeout() or 30.0


def _timeout() -> float | None:
    text = os.environ.get("ADIOS_TIMEOUT")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"ADIOS_TIMEOUT is {text!r}; it takes a number of seconds above 0.")
    return seconds


def limited(call: Callable[[], T], seconds: float) -> T:
    """What ``call()`` returns or raises, for calls that take no time limit themselves.

    Raises:
        TimeoutError: it took longer; it goes on in a thread that keeps no process alive.
    """
    answer: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not answer:
        raise TimeoutError
    return answer[0]


def opener() -> urllib.request.OpenerDirector:
    """What opens http and https addresses within the limits; its redirects lead to no less secure place."""
    return urllib.request.build_opener(_Redirects, _Http, _Https)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and not from the secure one to the other."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        new, old = urlsplit(newurl).scheme, urlsplit(req.full_url).scheme
        if new != "https" and new != old:
            raise DownloadError(f"{req.full_url} sends on to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(cast("Any", _connection(http.client.HTTPConnection)), req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(cast("Any", _connection(http.client.HTTPSConnection)), req)


def _connection(kind: Callable[..., http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
    def make(host: str, **options: Any) -> http.client.HTTPConnection:
        connection = kind(host, **options)
        # urllib has one limit for reaching a host and for waiting on it, and none for finding it.
        cast("Any", connection)._create_connection = _connect
        return connection

    return make


def _connect(address: tuple[str, int], *_: object) -> socket.socket:
    """A connection, made within :func:`connect_limit` over all addresses of the host."""
    end = time.monotonic() + connect_limit()
    found = limited(lambda: socket.getaddrinfo(*address, type=socket.SOCK_STREAM), connect_limit())
    failure: OSError = TimeoutError()
    for i, (family, kind, protocol, _name, where) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(end - time.monotonic(), 0.05) / (len(found) - i))
            connection.connect(where)
            connection.settimeout(stall_limit())
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure
