"""Keeps the messages that Ray's native code writes to stderr by itself away from the user."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# [2026-01-31 12:00:00,000 E 123 123] core_worker.cc:2465: …
NATIVE_RAY_LINE = re.compile(
    rb"\[\d{4}-\d\d-\d\d [\d:,]+ [IWEF] \d+ \d+\] [\w/.-]+\.(?:cc|h):\d+: "
)


@contextmanager
def native_ray_lines_hidden() -> Iterator[None]:
    """Python's stderr stays what it is; of what others write to it, Ray's log lines are dropped.

    Ray's C++ core reports on its own affairs there, whatever its log level for Python is. The same
    lines stand in its log files. Everything else (a crash, another library) comes through.
    """
    sys.stderr.flush()
    real = os.dup(2)
    readable, writable = os.pipe()
    os.dup2(writable, 2)
    os.close(writable)
    thread = threading.Thread(target=_forward, args=(readable, real), daemon=True)
    thread.start()
    before = sys.stderr
    sys.stderr = os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="replace")
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.dup2(real, 2)  # closes the pipe's last end here, which ends the thread
        # A child that still holds the pipe must not keep the program from ending.
        thread.join(timeout=1.0)


def _forward(readable: int, real: int) -> None:
    with os.fdopen(readable, "rb") as lines:
        for line in lines:
            if not NATIVE_RAY_LINE.match(line):
                os.write(real, line)
