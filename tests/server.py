"""Servers on loopback: one that hands out files and misbehaves on request, one that stands in for the Hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Any

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.owner.handle(self, self.rfile.read(length))

    do_GET = do_HEAD = do_POST = do_PUT = _any  # noqa: N815

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, data: object, status: int = 200, **headers: str) -> None:
        self.answer(status, json.dumps(data).encode(), Content_Type="application/json", **headers)


@contextmanager
def running(owner: Any) -> Iterator[str]:
    """Serve on a free port while the block lasts; gives the address."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": owner}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        owner.over.set()
        server.shutdown()
        server.server_close()


class Files:
    """Hands out files; ``script`` says how the next requests are answered, one word each, then all goes well.

    Words: ``404`` and other codes; ``break:N`` sends N bytes of the answer and closes; ``long`` states a length too
    great by 100, ``short`` one too small by 10; ``html``; ``hang`` sends nothing, ``stall:N`` nothing after N bytes;
    ``to:ADDRESS`` redirects; ``whole`` ignores ranges; ``unnamed`` gives neither ETag nor length; ``part`` answers
    with a range of another file.
    """

    def __init__(self, **files: bytes) -> None:
        self.files = dict(files)
        self.script: list[str] = []
        self.always: str | None = None
        self.requests: list[tuple[str, str | None]] = []  # path and range
        self.over = threading.Event()

    def handle(self, http: _Handler, _: bytes) -> None:
        asked = http.headers.get("Range")
        self.requests.append((http.path, asked))
        word, _, detail = (self.script.pop(0) if self.script else self.always or "").partition(":")
        content = self.files.get(http.path)
        if word.isdecimal() or content is None:
            http.answer(int(word or 404), b"<html>no</html>", Content_Type="text/html")
            return
        if word == "to":
            http.answer(302, b"", Location=detail)
            return
        if word == "html":
            http.answer(200, b"<!doctype html><p>Please log in", Content_Type=detail or "text/html")
            return
        if word == "hang":
            self.over.wait(20)
            return
        self._send(http, content, asked, word, int(detail or 0))

    def _send(self, http: _Handler, content: bytes, asked: str | None, word: str, count: int) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = 0
        if asked and word not in ("whole", "unnamed") and http.headers.get("If-Range", etag) == etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            http.answer(416)
            return
        body = content[start:]
        http.send_response(206 if start or word == "part" else 200)
        if start:
            http.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if word == "part":
            http.send_header("Content-Range", "bytes 3-9/10")
        if word != "unnamed":
            http.send_header("ETag", etag)
            stated = {"long": len(body) + 100, "short": len(body) - 10}.get(word, len(body))
            http.send_header("Content-Length", str(stated))
        http.send_header("Content-Type", "application/zip")
        http.send_header("Connection", "close")
        http.end_headers()
        http.close_connection = True
        http.wfile.write(body[:count] if word in ("break", "stall") else body)
        http.wfile.flush()
        if word == "stall":
            self.over.wait(20)


class Hub:
    """What huggingface_hub asks an endpoint for, for one repository, with a token or without."""

    def __init__(self, repo: str, files: dict[str, bytes] | None = None) -> None:
        self.repo = repo
        self.commits: list[dict[str, bytes]] = [files] if files else []
        self.branches = {"main": 0}
        self.stored: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.tokens: set[str | None] = set()
        self.headers: list[dict[str, str]] = []
        self.refuses: tuple[int, dict[str, str]] | None = None
        self.over = threading.Event()

    @staticmethod
    def sha(number: int) -> str:
        return f"{number + 1:040x}"

    def handle(self, http: _Handler, body: bytes) -> None:
        path = unquote(urlsplit(http.path).path)
        self.calls.append(f"{http.command} {path}")
        self.tokens.add(http.headers.get("Authorization"))
        if self.refuses:
            http.json({"error": "refused"}, self.refuses[0], **self.refuses[1])
        elif http.command == "PUT":
            self.stored[path.rsplit("/", 1)[-1]] = body
            http.answer(200)
        elif http.command == "POST":
            self._post(http, path, json.loads(body.splitlines()[0]), body)
        else:
            self._get(http, path)

    def _get(self, http: _Handler, path: str) -> None:
        api = f"/api/models/{self.repo}"
        if found := re.fullmatch(rf"/{re.escape(self.repo)}/resolve/(.+?)/(.+)", path):
            number = self._number(found[1])
            content = None if number is None else self.commits[number].get(found[2])
            if content is None:
                http.json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            digest = hashlib.sha256(content).hexdigest()
            http.answer(200, content, ETag=f'"{digest}"', X_Repo_Commit=self.sha(number or 0))
        elif path == api or path.startswith(f"{api}/revision/"):
            number = self._number(path.removeprefix(api).removeprefix("/revision/") or "main")
            if number is None:
                http.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
                return
            siblings = [{"rfilename": name} for name in self.commits[number]]
            http.json({"id": self.repo, "modelId": self.repo, "sha": self.sha(number), "siblings": siblings})
        elif path.startswith(f"{api}/tree/"):
            number = self._number(path.removeprefix(f"{api}/tree/")) or 0
            oid = "0" * 40
            files = self.commits[number].items()
            http.json([{"type": "file", "path": n, "size": len(c), "oid": oid} for n, c in files])
        else:
            http.json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    def _number(self, revision: str) -> int | None:
        if revision in self.branches:
            return self.branches[revision]
        numbers = [i for i in range(len(self.commits)) if self.sha(i) == revision]
        return numbers[0] if numbers else None

    def _post(self, http: _Handler, path: str, data: dict[str, Any], body: bytes) -> None:
        root = f"http://{http.headers['Host']}"
        if path == "/api/repos/create":
            http.json({"url": f"{root}/{self.repo}", "private": data.get("visibility") == "private"})
        elif path == "/api/validate-yaml":
            http.json({"errors": [], "warnings": []})
        elif "/branch/" in path:
            self.branches[path.rsplit("/", 1)[-1]] = 0
            http.json({})
        elif "/preupload/" in path:
            kinds = {
                f["path"]: "lfs" if f["path"].endswith((".safetensors", ".onnx")) else "regular" for f in data["files"]
            }
            http.json({"files": [{"path": p, "uploadMode": k, "shouldIgnore": False} for p, k in kinds.items()]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [{**o, "actions": {"upload": {"href": f"{root}/lfs/{o['oid']}"}}} for o in data["objects"]]
            http.json({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit(body)
            self.branches[path.rsplit("/", 1)[-1]] = len(self.commits) - 1
            oid = self.sha(len(self.commits) - 1)
            http.json({"success": True, "commitOid": oid, "commitUrl": f"{root}/{self.repo}/commit/{oid}"})
        else:
            http.json({"error": f"what is {path}?"}, 404)

    def _commit(self, body: bytes) -> None:
        files: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.headers.append(value)
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.stored[value["oid"]]
        self.commits.append(files)
