"""Sections as processes of their own: started with a limit, killed past it, their lines kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpu_sections.bench import Bench, Row, attempt
from gpu_sections.plan import Section

LEAST_S = 5.0
"""A section is not begun with less time than this."""


def run_here(section: Section, bench: Bench, lines: Path, say: Callable[[str], None]) -> None:
    """Work through a section in this process and append a JSON line after every row."""
    for name, work in section.rows(bench):
        began = time.perf_counter()
        row = {"section": section.name, **attempt(name, work)}
        row["took_s"] = round(time.perf_counter() - began, 2)
        append(lines, row)
        bench.free()
        say(json.dumps(row, ensure_ascii=False))


def run_apart(
    sections: Sequence[Section], command: Sequence[str], lines: Path, budget_s: float
) -> None:
    """Each section as `command --section NAME`, in turn, all within `budget_s` seconds.

    What a section leaves of its time goes to those after it. Whatever keeps one from its end
    becomes a line as well: its limit, no time left, or the code with which its process ended.
    """
    began_s = time.monotonic()
    granted_s = 0.0
    for section in sections:
        granted_s = min(granted_s + section.limit_s, budget_s)
        limit_s = began_s + granted_s - time.monotonic()
        if limit_s < min(LEAST_S, section.limit_s / 2):
            append(lines, {"section": section.name, "not_run": "no time was left for it"})
            continue
        code = run_process([*command, "--section", section.name], limit_s)
        if code is None:
            append(lines, {"section": section.name, "stopped_after_s": round(limit_s, 1)})
        elif code:
            append(lines, {"section": section.name, "exit_code": code})


def run_process(command: Sequence[str], limit_s: float) -> int | None:
    """The exit code of a command, or None where it and its children were killed at its limit.

    It looks for no network: what waits for one that is not there takes the time of the others.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def this_command(script: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs `script` with this Python."""
    return [sys.executable, script, *arguments]


def append(lines: Path, row: Row) -> None:
    """One more line, on the disk when this returns."""
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(lines: Path) -> tuple[Row, ...]:
    """All rows so far; a line that a killed process left unfinished is no row."""
    if not lines.exists():
        return ()
    rows = []
    for line in lines.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return tuple(rows)
