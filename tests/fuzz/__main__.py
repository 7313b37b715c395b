"""The long form: `python -m tests.fuzz --minutes 8 --json benchmarks/results/fuzz.json`.

Every kind runs in a process of its own, so that a crash of native code is seen, counted and got
over. One input again, with its traceback: `python -m tests.fuzz --kind tar --seed 1234`.
"""

# ruff: noqa: T201 - a command, which prints its report

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.targets import KINDS, TARGETS

HANG_CPU_S, HANG_WALL_S = 20.0, 180.0
ADDRESS_SPACE = 6 << 30
_STATE = struct.Struct("<9d")
_FIELDS = ("seed", "inputs", "accepted", "refused", "unexpected", "worst_s", "worst_seed", "began")
_FIELDS += ("cpu",)
_PACKAGES = ("pyarrow", "pillow", "numpy", "torch", "safetensors", "fsspec")


def work(kind: str, start: int, seconds: float, state_file: Path, findings: Path) -> None:
    """Reads inputs from seed `start` on until the time is over; the state survives a crash."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with state_file.open("r+b") as file, tempfile.TemporaryDirectory() as scratch:
        shared = mmap.mmap(file.fileno(), _STATE.size)
        state = dict(zip(_FIELDS, _STATE.unpack(shared[:]), strict=True))
        for _ in range(3):  # imports that the first inputs need count for none of them
            one(kind, start, Path(scratch))
        end = time.monotonic() + seconds
        seed = start
        while time.monotonic() < end:
            state |= {"seed": seed, "began": time.time()}
            began = time.process_time()
            shared[:] = _STATE.pack(*(state | {"cpu": began}).values())
            outcome = one(kind, seed, Path(scratch))
            took = time.process_time() - began
            state["inputs"] += 1
            if isinstance(outcome, bool):
                state["accepted" if outcome else "refused"] += 1
            else:
                state["unexpected"] += 1
                with findings.open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"kind": kind, "seed": seed, **outcome}) + "\n")
            if took > state["worst_s"]:
                state |= {"worst_s": took, "worst_seed": seed}
            seed += 1
        state |= {"seed": seed, "began": 0.0}
        shared[:] = _STATE.pack(*state.values())


def _work_and_exit(kind: str, start: int, seconds: float, state: Path, findings: Path) -> None:
    """`work` in a process that was forked for it; what libraries print of bad input is dropped."""
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        work(kind, start, seconds, state, findings)
        status = 0
    finally:
        os._exit(status)


def one(kind: str, seed: int, scratch: Path) -> bool | dict[str, str]:
    """Whether the input was accepted; of an unexpected exception its type, message and place."""
    target, folder = TARGETS[kind], scratch / "input"
    folder.mkdir()
    try:
        return target.read(target.make(Random(seed)), folder)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "pad_pipeline" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return {"type": type(error).__name__, "message": repr(str(error)[:200]), "place": place}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fuzz(kind: str, seconds: float, first_seed: int) -> dict[str, Any]:
    """The figures of one kind; its process is started again behind an input that ended it."""
    crashes: list[dict[str, Any]] = []
    peak_kib, seed = 0, first_seed
    with tempfile.TemporaryDirectory() as folder:
        state_file, findings = Path(folder, "state"), Path(folder, "findings")
        state_file.write_bytes(_STATE.pack(*[0.0] * len(_FIELDS)))
        findings.touch()
        spent = 0.0
        while spent < seconds:
            began = time.monotonic()
            child = os.fork()  # what takes long to import is there already
            if not child:
                _work_and_exit(kind, seed, seconds - spent, state_file, findings)
            hung = False
            while True:
                pid, status, usage = os.wait4(child, os.WNOHANG)
                if pid:
                    break
                state = dict(zip(_FIELDS, _STATE.unpack(state_file.read_bytes()), strict=True))
                waited, busy = time.time() - state["began"], _cpu_s(child) - state["cpu"]
                if state["began"] and (busy > HANG_CPU_S or waited > HANG_WALL_S):
                    hung = True
                    os.kill(child, signal.SIGKILL)
                time.sleep(0.05)
            exit_status = os.waitstatus_to_exitcode(status)
            peak_kib = max(peak_kib, usage.ru_maxrss)
            spent += time.monotonic() - began
            state = dict(zip(_FIELDS, _STATE.unpack(state_file.read_bytes()), strict=True))
            if exit_status == 0:
                break
            how = "hang" if hung else f"exit status {exit_status}"
            crashes.append({"seed": int(state["seed"]), "how": how})
            if not state["began"] or len(crashes) > 20:
                break
            seed = int(state["seed"]) + 1
        found = [json.loads(line) for line in findings.read_text(encoding="utf-8").splitlines()]
    figures: dict[str, Any] = {"kind": kind, "first_seed": first_seed}
    figures |= {name: int(state[name]) for name in ("inputs", "accepted", "refused", "unexpected")}
    return figures | {
        "hangs": sum(crash["how"] == "hang" for crash in crashes),
        "crashes": sum(crash["how"] != "hang" for crash in crashes),
        "seconds": round(spent, 1),
        "worst_cpu_s": round(state["worst_s"], 3),
        "worst_seed": int(state["worst_seed"]),
        "peak_memory_mib": round(peak_kib / 1024),
        "ended_the_process": crashes,
        "findings": _distinct(found),
    }


def _cpu_s(pid: int) -> float:
    """Processor time of a process, which tells more than the clock where others are at work too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _distinct(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first finding of each type and place, with how often it came."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in found:
        entry = first.setdefault((finding["type"], finding["place"]), {**finding, "times": 0})
        entry["times"] += 1
    return list(first.values())


def main() -> int:
    """0 where no input did anything but be accepted or refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all kinds together")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these kinds")
    parser.add_argument("--seed", type=int, help="one input of --kind, with its traceback")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        kind, start, seconds, state_file, findings = arguments.work
        work(kind, int(start), float(seconds), Path(state_file), Path(findings))
        return 0
    kinds = arguments.kind or list(KINDS)
    if arguments.seed is not None:
        data = TARGETS[kinds[0]].make(Random(arguments.seed))
        print(f"{len(data)} bytes: {data[:200]!r}")
        with tempfile.TemporaryDirectory() as folder:
            print("accepted" if TARGETS[kinds[0]].read(data, Path(folder)) else "refused")
        return 0
    rows: list[dict[str, Any]] = []
    total = _total(rows)
    for kind in kinds:
        figures = fuzz(kind, arguments.minutes * 60 / len(kinds), arguments.first_seed)
        rows.append(figures)
        shown = ("inputs", "accepted", "refused", "unexpected", "hangs", "crashes")
        print(f"{kind:10}", *(f"{name} {figures[name]:,}" for name in shown), sep="  ")
        print(f"{'':10}  worst {figures['worst_cpu_s']} s of CPU, {figures['peak_memory_mib']} MiB")
        for finding in [*figures["findings"], *figures["ended_the_process"]]:
            print(f"{'':10}  {finding}")
        sys.stdout.flush()
        total = _total(rows)
        if arguments.json:
            _write(arguments.json, rows, total)
    print("total", total)
    return 1 if total["unexpected"] or total["hangs"] or total["crashes"] else 0


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("inputs", "accepted", "refused", "unexpected", "hangs", "crashes")
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in names}
    return total | {"seconds": round(sum(row["seconds"] for row in rows), 1)}


def _write(path: Path, rows: list[dict[str, Any]], total: dict[str, Any]) -> None:
    result = {
        "what": "mutated files of every kind, read in a process of its own per kind",
        "measured": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "load_average_at_the_end": round(os.getloadavg()[0], 1),
        "address_space_limit_mib": ADDRESS_SPACE >> 20,
        "counts_as_hang": {"cpu_s": HANG_CPU_S, "wall_s": HANG_WALL_S},
        "total": total,
        "kinds": rows,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
