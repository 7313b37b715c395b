"""One run at a time on one output."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from pad_pipeline.errors import UserError
from pad_pipeline.storage.atomic import check_writable
from pad_pipeline.storage.errors import user_errors
from pad_pipeline.storage.urls import local_path

NAME = "_lock"
_TIMEOUT_S = 0.2  # `is_held` may have it for a moment
_POLL_S = 0.05
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@contextmanager
def only_run_on(output: str) -> Iterator[None]:
    """Keep other runs of this machine away from `output` while the block lasts.

    The kernel releases the lock when the process ends, however it ends. Object stores and file
    systems without locks are not covered: there, two runs do the work twice and write the same
    bytes. Raises `UserError` where another run holds the lock.
    """
    folder = local_path(output)
    if folder is None:
        yield
        return
    check_writable(output)
    path = folder / NAME
    lock = FileLock(path, timeout=_TIMEOUT_S, fallback_to_soft=False)
    with user_errors(output, "lock"):
        try:
            lock.acquire(poll_interval=_POLL_S)
        except Timeout:
            owner = path.read_text(encoding="utf-8").strip() if path.exists() else ""
            raise UserError(
                f"another run is writing to {output} ({owner or 'just started'}); wait for it, "
                "stop it, or choose another output"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        if lock.is_locked:
            owner = f"process {os.getpid()} on {socket.gethostname()}\n"
            path.write_text(owner, encoding="utf-8")
        yield
    finally:
        if lock.is_locked:
            path.unlink(missing_ok=True)
            lock.release()


def is_held(output: str) -> bool | None:
    """Whether a run of this machine writes to `output`; None where that cannot be known.

    By `flock` itself: `FileLock` would make the file, and needs the right to write to it.
    """
    folder = local_path(output)
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
