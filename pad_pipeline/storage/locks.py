"""One run at a time on one output."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pad_pipeline import storage
from pad_pipeline.errors import UserError

NAME = "_lock"
_LOOKS = 4
_BETWEEN_LOOKS_S = 0.05


@contextmanager
def only_run_on(output: str) -> Iterator[None]:
    """Keep other runs of this machine away from `output` while the block lasts.

    The kernel gives the lock back when the process ends, however it ends. Object stores and file
    systems without locks are not covered: there, two runs do the work twice and write the same
    bytes. Raises `UserError` where another run holds the lock.
    """
    folder = storage.local_path(output)
    if folder is None:
        yield
        return
    storage.check_writable(output)
    path = folder / NAME
    looks = 0
    while True:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                looks += 1
                if looks < _LOOKS:  # it may be `is_held` that has it for a moment
                    time.sleep(_BETWEEN_LOOKS_S)
                    continue
                file.seek(0)
                raise UserError(
                    f"another run is writing to {output} ({file.read().strip() or 'just started'});"
                    " wait for it, stop it, or choose another output"
                ) from None
            except OSError:  # a file system without locks
                yield
                return
            if not _is_still(file.fileno(), path):
                continue  # the run that held it has just ended and removed the file
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def is_held(output: str) -> bool | None:
    """Whether a run of this machine writes to `output`; None where that cannot be known."""
    folder = storage.local_path(output)
    if folder is None:
        return None
    try:
        with (folder / NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    return False


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that the path names."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
