"""Ports that are free, taken, or impossible."""

from __future__ import annotations

import socket

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.ports import listen


def test_connections_wait_for_the_server() -> None:
    with listen("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(b"early")
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(5) == b"early"


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        sentence = f"port {port} of 127.0.0.1 is taken by another program: choose another with port"
        with pytest.raises(UserError, match=sentence):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("127.0.0.1", 70000, "expected a port from 0 to 65535, found 70000"),
        ("127.0.0.1", -1, "expected a port from 0 to 65535, found -1"),
        ("no.such.host.invalid", 0, "no.such.host.invalid is no address of this machine"),
    ],
)
def test_what_cannot_be_listened_at_is_one_sentence(host: str, port: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        listen(host, port)
