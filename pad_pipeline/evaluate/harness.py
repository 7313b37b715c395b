"""Benchmarks through lmms-eval on an export: its program is run, its results are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError

VERSION = "0.7.3"
"""The release whose results and options are read here."""

_NOT_FIGURES = ("alias", "samples")
_JUDGED = "it needs a judge or files that are not there; see the log"
_ABOUT_DEPENDENCIES = (
    f"install lmms-eval {VERSION} into an environment of its own, whose Python is named with "
)


@dataclass(frozen=True, slots=True)
class HarnessReport:
    """What lmms-eval found, task by task."""

    summary: Mapping[str, Any]
    output: str

    def lines(self) -> list[str]:
        """The report as a table."""
        lines = [
            f"{task:28}{name:36}{value:10.4f}"
            for task, metrics in self.summary["metrics"].items()
            for name, value in metrics.items()
        ]
        lines += [f"{task:28}{why}" for task, why in self.summary["not_measured"].items()]
        return [*lines, f"wrote {storage.join(self.output, 'summary.json')}"]


def run_harness(
    export: str,
    tasks: Sequence[str],
    output: str,
    *,
    python: str | None = None,
    include_path: str | None = None,
    batch_size: int = 1,
    limit: int | None = None,
    device: str = "cuda",
) -> HarnessReport:
    """Run lmms-eval's `tasks` on the exported directory and write summary.json into `output`.

    `python` is that of the environment with lmms-eval, by default this one. `include_path` is a
    folder with task files of one's own. Raises `UserError` where lmms-eval is not there or ends
    with an error, and for an export that transformers cannot load by itself.
    """
    folder = Path(export)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{export} is no export for transformers: it has no config.json. A C-Abstractor cannot "
            "go through lmms-eval: use `evaluate referring` and the like on its run"
        )
    interpreter = python or sys.executable
    _check_version(interpreter)
    place = storage.local_path(output)
    if place is None:
        raise UserError(Setting("output"), f" must be a folder on this machine, not {output}")
    raw = place.absolute() / "lmms_eval"
    raw.mkdir(parents=True, exist_ok=True)
    before = set(raw.rglob("*results.json"))
    dtype = "float32" if device == "cpu" else "bfloat16"
    model = f"pretrained={folder.absolute()},device={device},device_map={device},dtype={dtype}"
    command = [
        *(interpreter, "-m", "lmms_eval", "--model", "llava_hf", "--model_args", model),
        *("--tasks", ",".join(tasks), "--batch_size", str(batch_size)),
        *("--log_samples", "--output_path", str(raw)),
    ]
    if include_path is not None:
        command += ["--include_path", str(Path(include_path).absolute())]
    if limit is not None:
        command += ["--limit", str(limit)]
    log = raw / "log.txt"
    with log.open("wb") as stream:
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, check=False, env=_environment()
        )
    found = sorted(set(raw.rglob("*results.json")) - before)
    if done.returncode or not found:
        raise UserError(f"lmms-eval ended with code {done.returncode}: {_last(log)}; see {log}")
    results = json.loads(found[-1].read_text(encoding="utf-8"))
    metrics, not_measured = _read(results, tasks)
    summary = {
        "kind": "harness",
        "lmms_eval": VERSION,
        "model": str(folder.absolute()),
        "batch_size": batch_size,
        "limit": limit,
        "metrics": metrics,
        "not_measured": not_measured,
        "results": str(found[-1]),
    }
    storage.write_json(storage.join(output, "summary.json"), summary)
    return HarnessReport(summary, output)


def _check_version(python: str) -> None:
    code = "from importlib.metadata import version; print(version('lmms-eval'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(
            f"{python} cannot be run ({error.strerror}); {_ABOUT_DEPENDENCIES}", Setting("python")
        ) from error
    found = done.stdout.strip()
    if found != VERSION:
        there = f"has lmms-eval {found}" if found else "has no lmms-eval"
        raise UserError(f"{python} {there}; {_ABOUT_DEPENDENCIES}", Setting("python"))


def _environment() -> dict[str, str]:
    """Ours, without the paths of modules, which are for this Python."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _read(
    results: Mapping[str, Any], tasks: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """(figures by task and metric, tasks without a figure and why)."""
    metrics: dict[str, dict[str, float]] = {}
    for task, values in results["results"].items():
        figures = {
            name.removesuffix(",none"): float(value)
            for name, value in values.items()
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and name.strip() not in _NOT_FIGURES
            and "stderr" not in name
        }
        if figures:
            metrics[task] = figures
    measured = {task for task in tasks if any(name.startswith(task) for name in metrics)}
    return metrics, {task: f"not measured: {_JUDGED}" for task in tasks if task not in measured}


def _last(log: Path) -> str:
    lines = [
        line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line
    ]
    return lines[-1][:200] if lines else "it printed nothing"
