"""The metrics of a run: metrics.jsonl, one JSON line per step, written and read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from pad_pipeline import storage

METRICS = "metrics.jsonl"


class MetricsFile:
    """`RUN/metrics.jsonl`; locally a line is there at once, elsewhere at each `flush`."""

    def __init__(self, run: str, first_step: int) -> None:
        """Keeps the lines of steps before `first_step`, drops what a killed run wrote beyond."""
        self._url = storage.join(run, METRICS)
        self._lines = [line for line in _lines(self._url) if _is_old(line, first_step)]
        path = storage.local_path(self._url)
        storage.write_atomic(self._url, self._text())
        self._file = path.open("a", encoding="utf-8") if path is not None else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is not finite is written as null."""
        clean = {name: v if math.isfinite(v) else None for name, v in values.items()}
        line = json.dumps({"step": step, **clean})
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Put what was written where the run lies, if that is not this machine's disk."""
        if self._file is None:
            storage.write_atomic(self._url, self._text())

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def _text(self) -> bytes:
        return "".join(line + "\n" for line in self._lines).encode()


def read_metrics(run: str) -> list[dict[str, Any]]:
    """All lines of a run's metrics, in order."""
    return [json.loads(line) for line in _lines(storage.join(run, METRICS))]


def _lines(url: str) -> list[str]:
    if not storage.exists(url):
        return []
    # a killed run may have left a half line at the end
    return [line for line in storage.read_bytes(url).decode().splitlines() if line.endswith("}")]


def _is_old(line: str, first_step: int) -> bool:
    return json.loads(line)["step"] < first_step


class NewMetrics:
    """The lines that a run's metrics file got since it was last read."""

    def __init__(self, run: str) -> None:
        self._url = storage.join(run, METRICS)
        self._place = storage.local_path(self._url)
        self._offset = 0
        self._inode = 0
        self._version = ""

    def read(self) -> list[dict[str, Any]]:
        """Whole lines alone; all of them where a file that is not on this machine has changed."""
        if not storage.exists(self._url):
            return []
        if self._place is None:
            version = storage.version(self._url)
            if version == self._version:
                return []
            text = storage.read_bytes(self._url)
            self._version = version
        else:
            with self._place.open("rb") as file:
                # a resumed run writes the file anew, without the lines behind its checkpoint
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                text = file.read()
            text = text[: text.rfind(b"\n") + 1]
            self._offset += len(text)
        return [json.loads(line) for line in text.decode().splitlines() if line.endswith("}")]
