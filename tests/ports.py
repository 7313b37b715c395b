"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Below those that systems give to whoever asks for any port, as each Ray beside a test does
many times: one of these would be taken again before the server is up. Ray's workers have lower."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at, and that nobody gets by chance."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("of 100 ports, none is free")
