"""How a run stands, read from its files on any machine: heartbeat, shards and their parts."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.annotate.report import causes
from pad_pipeline.annotate.run_files import progress_url, status_url
from pad_pipeline.annotate.shard_layout import ShardLayout, layout_of
from pad_pipeline.dataset.manifest import require_run
from pad_pipeline.dataset.writer import read_table
from pad_pipeline.errors import UserError
from pad_pipeline.storage.locks import is_held

MISSED_BEATS = 3
"""Intervals without a heartbeat after which a run on another machine counts as dead."""

State = Literal["finished", "running", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How a run stands. Counts come from its shards, rates from its heartbeat."""

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
    """Since that command's last heartbeat, where it is not running any more."""
    reason: str | None = None
    """Why it ended, if it could write that."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read_status(output: str, *, wait: Callable[[float], None] = time.sleep) -> RunStatus:
    """How the run at `output` stands; opens no image.

    `wait` is called with seconds where the clock of the run's machine may be off.

    Raises `UserError` where there is no run of `annotate`.
    """
    manifest = require_run(output)
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
    heartbeat = _read_heartbeat(output)
    is_alive = heartbeat is not None and _is_alive(output, heartbeat, wait)
    rate = heartbeat["images_per_s"] if heartbeat is not None and is_alive else None
    return RunStatus(
        output=output,
        state="running" if is_alive else "interrupted",
        num_images=layout.num_images,
        num_done=num_done,
        failures=failures,
        images_per_s=rate,
        seconds_left=(layout.num_images - num_done) / rate if rate else None,
        stages=heartbeat["stages"] if heartbeat else {},
        where=heartbeat["where"] if heartbeat else None,
        seconds_since_sign=(
            None if is_alive or not heartbeat else time.time() - heartbeat["written_at"]
        ),
        reason=heartbeat["reason"] if heartbeat else None,
    )


def count_done(output: str, layout: ShardLayout) -> tuple[int, dict[str, int]]:
    """Images that are finished, and the failed ones among them by cause."""
    num_done = 0
    failures: Counter[str] = Counter()
    for shard in range(layout.num_shards):
        for table in _tables(output, layout, shard):
            num_done += table.num_rows
            failures.update(causes(table))
    return num_done, dict(failures.most_common())


def _tables(output: str, layout: ShardLayout, shard: int) -> list[pa.Table]:
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


def _read_heartbeat(output: str) -> dict[str, Any] | None:
    url = status_url(output)
    try:
        return json.loads(storage.read_bytes(url))
    except UserError:
        if storage.exists(url):
            raise
        return None


def _is_alive(output: str, heartbeat: Mapping[str, Any], wait: Callable[[float], None]) -> bool:
    if heartbeat["state"] != "running":
        return False
    if is_held(output):
        return True
    if time.time() - heartbeat["written_at"] < MISSED_BEATS * heartbeat["interval_s"]:
        # killed a moment ago, if it ran on this machine, since its lock is free
        return f"on {socket.gethostname()}" not in heartbeat["where"] or is_held(output) is None
    # the clocks of two machines may differ: wait for its next heartbeat
    wait(heartbeat["interval_s"] + 1.0)
    later = _read_heartbeat(output)
    return later is not None and later["written_at"] != heartbeat["written_at"]
