"""How a run stands, for whoever asks from any machine: written while it goes, read with the shards.

OUTPUT/_run/status.json    rewritten every few seconds; gone when the data set is finished
"""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.annotate.ledger import layout_of
from pad_pipeline.annotate.report import causes
from pad_pipeline.annotate.run_files import RUN, Layout, progress_url
from pad_pipeline.dataset.manifest import require_manifest
from pad_pipeline.dataset.writer import read_table
from pad_pipeline.errors import UserError
from pad_pipeline.storage.locks import is_held

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
REMOTE_INTERVAL_S = 20.0
_BEATS_MISSED = 3

State = Literal["finished", "running", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Where a run stands. Counts come from its files, rates from what it says of itself."""

    output: str
    state: State
    num_images: int
    num_done: int
    failures: Mapping[str, int]
    """Failed images so far by stage and type of the error."""
    images_per_s: float | None = None
    seconds_left: float | None = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`StageMetrics.to_dict` by stage, of the last command on this output."""
    where: str | None = None
    """Process and host of the last command."""
    seconds_since_sign: float | None = None
    """Since that command was last heard of, where it is not running any more."""
    reason: str | None = None
    """Why it ended, if it could say so."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Heartbeat:
    """Writes what `describe` gives to the run's status file while the block lasts, and its end."""

    def __init__(self, output: str, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._url = status_url(output)
        self._describe = describe
        is_here = storage.local_path(output) is not None
        self._interval_s = INTERVAL_S if is_here else REMOTE_INTERVAL_S
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._is_failing = False

    def __enter__(self) -> Heartbeat:
        self._write("running", None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is not None:
            told = str(error) if isinstance(error, UserError) else type(error).__name__
            self._write("interrupted", told)

    def _beat(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._write("running", None)

    def _write(self, state: State, reason: str | None) -> None:
        values = {
            "state": state,
            "reason": reason,
            "written_at": time.time(),
            "interval_s": self._interval_s,
            "where": f"process {os.getpid()} on {socket.gethostname()}",
            **self._describe(),
        }
        try:
            storage.write_atomic(self._url, (json.dumps(values, indent=2) + "\n").encode())
        except UserError as error:
            # the run itself goes on: its records have retries of their own
            if not self._is_failing:
                logger.warning("`pad-pipeline status` will be out of date: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False


def status_url(output: str) -> str:
    """Where a run says how it stands."""
    return storage.join(output, RUN, "status.json")


def read_status(output: str, *, wait: Callable[[float], None] = time.sleep) -> RunStatus:
    """How the run at `output` stands; opens no image. `wait` is called where a clock may be off.

    Raises `UserError` where there is no run of `annotate`.
    """
    manifest = require_manifest(output)
    is_finished = manifest["state"] == "finished"
    layout = layout_of(manifest)
    num_done, failures = count_done(output, layout)
    if is_finished:
        return RunStatus(
            output=output,
            state="finished",
            num_images=layout.num_images,
            num_done=num_done,
            failures=failures,
        )
    said = _read(output)
    is_alive = said is not None and _is_alive(output, said, wait)
    rate = said["images_per_s"] if said is not None and is_alive else None
    return RunStatus(
        output=output,
        state="running" if is_alive else "interrupted",
        num_images=layout.num_images,
        num_done=num_done,
        failures=failures,
        images_per_s=rate,
        seconds_left=(layout.num_images - num_done) / rate if rate else None,
        stages=said["stages"] if said else {},
        where=said["where"] if said else None,
        seconds_since_sign=None if is_alive or not said else time.time() - said["written_at"],
        reason=said["reason"] if said else None,
    )


def count_done(output: str, layout: Layout) -> tuple[int, dict[str, int]]:
    """Images that are finished, and the failed ones among them by cause."""
    num_done = 0
    failures: Counter[str] = Counter()
    for shard in range(layout.num_shards):
        for table in _tables(output, layout, shard):
            num_done += table.num_rows
            failures.update(causes(table))
    return num_done, dict(failures.most_common())


def _tables(output: str, layout: Layout, shard: int) -> list[pa.Table]:
    """The errors of a shard's finished images, each once, while a run may be writing them."""
    whole = storage.join(output, layout.shard_name(shard))
    url = progress_url(output, shard)
    for _ in range(2):
        if storage.exists(whole):
            return [read_table(whole, columns=["error"])]
        parts = [storage.join(url, part) for part in storage.list_files(url, ".parquet")]
        try:
            tables = [read_table(part, columns=["error", "chunk"]) for part in parts]
        except UserError:
            if all(map(storage.exists, parts)):
                raise
            continue  # they have become a shard in the meantime
        seen: set[int] = set()
        fresh = []
        for table in tables:
            is_old = pc.is_in(table["chunk"], pa.array(seen, pa.int64()))
            fresh.append(table.filter(pc.invert(is_old)))
            seen |= set(pc.unique(table["chunk"]).to_pylist())
        return fresh
    return []


def _read(output: str) -> dict[str, Any] | None:
    url = status_url(output)
    try:
        return json.loads(storage.read_bytes(url))
    except UserError:
        if storage.exists(url):
            raise
        return None


def _is_alive(output: str, said: Mapping[str, Any], wait: Callable[[float], None]) -> bool:
    if said["state"] != "running":
        return False
    if is_held(output):
        return True
    if time.time() - said["written_at"] < _BEATS_MISSED * said["interval_s"]:
        # killed a moment ago, if it ran on this machine, since its lock is free
        return f"on {socket.gethostname()}" not in said["where"] or is_held(output) is None
    # the clocks of two machines may differ: look whether it is written again
    wait(said["interval_s"] + 1.0)
    again = _read(output)
    return again is not None and again["written_at"] != said["written_at"]
