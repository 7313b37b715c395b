"""A limit on the memory of this process and all that it starts, as containers have it."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup/memory")
_CLONE_NEWNS = 0x00020000


def contain(limit_bytes: int) -> Callable[[], None] | None:
    """Enter a cgroup (version 1) of that size that programs see as the whole machine.

    Returns what leaves and removes it once all other processes in it have ended; None, and nothing
    is changed, where this process may not do that or the system has no such groups.
    """
    if os.geteuid() or not (_GROUPS / "memory.limit_in_bytes").exists():
        return None
    own = _GROUPS / f"pad-chaos-{os.getpid()}"
    try:
        own.mkdir()
    except OSError:
        return None
    outside = os.open(_GROUPS / "cgroup.procs", os.O_WRONLY)

    def remove() -> None:
        os.write(outside, str(os.getpid()).encode())
        os.close(outside)
        subprocess.run(["umount", str(_GROUPS)], check=False)
        with suppress(OSError):
            own.rmdir()

    (own / "memory.limit_in_bytes").write_text(str(limit_bytes))
    (own / "cgroup.procs").write_text(str(os.getpid()))
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        remove()
        return None
    # only this process and its children see the group in place of all groups
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", str(own), str(_GROUPS)], check=True)
    return remove
