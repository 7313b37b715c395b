"""An HTTP server with files, ranges and the faults that downloads meet; also as a small hub."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COMMIT = "c0ffee" + "0" * 34


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` by path. `cuts` are the bytes after which the next long answers break off."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.url = files, f"http://127.0.0.1:{self.server_port}"
        self.cuts: list[int] = []
        self.ranges = True
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and first byte of each."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked and self.server.ranges else 0
        self.server.requests.append((self.command, self.path, start))
        path = re.sub(rf"/resolve/(main|{COMMIT})/", "/", self.path)
        if any(f"/{repository}/" in path for repository in self.server.gated):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self._end(b"")
        elif listed := re.fullmatch(r"/api/models/(.+)/(revision|tree)/[^/]+", path):
            self._list(listed[1], listed[2])
        elif path not in self.server.files:
            self.send_response(404)
            self._end(b"")
        elif start and start >= len(self.server.files[path]):
            self.send_response(416)
            self._end(b"")
        else:
            self._send(self.server.files[path], start, with_body)

    def _list(self, repository: str, form: str) -> None:
        prefix = f"/{repository}/"
        sizes = {
            path.removeprefix(prefix): len(data)
            for path, data in self.server.files.items()
            if path.startswith(prefix)
        }
        content: object = {
            "id": repository,
            "sha": COMMIT,
            "siblings": [{"rfilename": name} for name in sizes],
        }
        if form == "tree":
            content = [
                {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                for name, size in sizes.items()
            ]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._end(json.dumps(content).encode())

    def _send(self, content: bytes, start: int, with_body: bool) -> None:
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            rest = content[start:]
            cut = self.server.cuts.pop(0) if self.server.cuts and len(rest) > 100 else len(rest)
            self.wfile.write(rest[:cut])
            self.close_connection = True

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """A server for the block; `files` are contents by path."""
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
