"""The processes below this one: finding those of a kind, and killing them with SIGKILL."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of all processes below whose parent ends, so that none is lost sight of."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def below(root: int | None = None) -> list[psutil.Process]:
    """Everything that this process, or `root`, has started, directly or not, and that runs."""
    try:
        found = psutil.Process(root or os.getpid()).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if not _is_over(process)]


def find(kind: str, since_s: float, root: int | None = None) -> list[psutil.Process]:
    """Workers of a stage, or those that run `reader` tasks, started after `since_s` (epoch)."""
    operator = "read_chunks" if kind == "reader" else kind
    # Ray calls an actor ray::MapWorker(MapBatches(tag)), with what it runs behind it.
    names = (f"ray::MapBatches({operator})", f"ray::MapWorker(MapBatches({operator}))")
    found = []
    for process in below(root):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            command = (process.cmdline() or [""])[0]
            if command.startswith(names) and process.create_time() >= since_s:
                found.append(process)
    return found


def raylets(root: int) -> list[psutil.Process]:
    """The raylets below `root`."""
    return [process for process in below(root) if _name(process) == "raylet"]


def kill(processes: Iterable[psutil.Process]) -> int:
    """SIGKILL for each; returns how many were there."""
    count = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil makes sure that the number is not another process's by now
            count += 1
    return count


def end_all() -> int:
    """Kill everything below this process; returns how many there were."""
    left = below()
    kill(left)
    psutil.wait_procs(left, timeout=10)
    return len(left)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _is_over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
