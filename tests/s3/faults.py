"""A proxy between S3's client and server that fails some requests, as a plan says."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


FAILED_CONDITION = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>PreconditionFailed</Code><Message>It has changed.</Message></Error>"
)


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    "busy": 503, not passed on. "reset": the connection is reset, not passed on. "lost": passed on,
    then reset before the answer. "cut": reset in the middle of the answer. "slow": the answer's
    first byte comes after `seconds`.
    """

    kind: str
    seconds: float = 0.0


Plan = Callable[[int, str, str], Fault | None]
"""(number of the request, from 0; method; path with query) -> its fault."""


def every(number: int, fault: Fault) -> Plan:
    """Every so many-th request."""
    return lambda count, method, path: fault if count % number == number - 1 else None


def first(number: int, fault: Fault, method: str = "") -> Plan:
    """The first so many requests, or those of one method."""
    left = [number]

    def plan(count: int, found: str, path: str) -> Fault | None:
        if left[0] and method in ("", found):
            left[0] -= 1
            return fault
        return None

    return plan


def seeded(seed: int, share: float, *faults: Fault) -> Plan:
    """This share of the requests, one of the faults each; the same for the same seed."""
    generator = random.Random(seed)

    def plan(count: int, method: str, path: str) -> Fault | None:
        return generator.choice(faults) if generator.random() < share else None

    return plan


@dataclass
class Faults:
    """A running proxy: where it listens, what it does and what it has seen."""

    endpoint: str
    plan: Plan = lambda count, method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    done: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    checks_conditions: bool = False
    """Whether writes under a condition are refused where it fails, as AWS does and rclone does not;
    of what was written through this proxy."""
    etags: dict[str, str] = field(default_factory=dict)
    writing: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str) -> Fault | None:
        """Note a request and decide on it."""
        with self.lock:
            fault = self.plan(len(self.requests), method, path)
            self.requests.append((method, path))
            if fault:
                self.done.append(fault)
            return fault


@contextmanager
def faults_before(upstream: str) -> Iterator[Faults]:
    """A proxy before the server at `upstream` (host:port) while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):  # clients give up, too
                super().handle_one_request()
                return
            self.close_connection = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.next(self.command, self.path)
            kind = fault.kind if fault else ""
            if kind == "busy":
                return self.reply(503, [("Content-Type", "application/xml")], SLOW_DOWN)
            if kind == "reset":
                return self.reset()
            if self.command in ("PUT", "DELETE") and faults.checks_conditions:
                with faults.writing:
                    if not self.condition_holds():
                        xml = [("Content-Type", "application/xml")]
                        return self.reply(412, xml, FAILED_CONDITION)
                    return self.forward(body, fault)
            return self.forward(body, fault)

        def condition_holds(self) -> bool:
            etag = faults.etags.get(self.path.partition("?")[0])
            wanted = self.headers.get("If-Match")
            is_new = self.headers.get("If-None-Match") != "*" or etag is None
            return is_new and wanted in (None, etag)

        def forward(self, body: bytes, fault: Fault | None) -> None:
            kind = fault.kind if fault else ""
            connection = http.client.HTTPConnection(upstream, timeout=60)
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data, headers = response.read(), response.getheaders()
            connection.close()
            if self.command == "PUT" and response.status == 200:
                faults.etags[self.path.partition("?")[0]] = response.headers["ETag"]
            if self.command == "DELETE":
                faults.etags.pop(self.path.partition("?")[0], None)
            if kind == "lost":
                return self.reset()
            if fault and kind == "slow":
                time.sleep(fault.seconds)
            return self.reply(response.status, headers, data, cut=kind == "cut")

        def reply(
            self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False
        ) -> None:
            sized = [
                (name, value)
                for name, value in headers
                if name.lower() not in ("connection", "transfer-encoding", "content-length")
            ]
            given = next((v for n, v in headers if n.lower() == "content-length"), None)
            length = int(given) if self.command == "HEAD" and given else len(data)
            self.send_response_only(status)
            for name, value in sized:
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                data = b""
            self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.reset()

        def reset(self) -> None:
            self.wfile.flush()
            # Closed at once and with what was not read thrown away, the kernel sends a reset.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # of connections that were reset on purpose

    server = Server(("127.0.0.1", 0), Handler)
    faults = Faults(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
