"""What passes between the operators of a run: one chunk of images, as one row of a block."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field

import pyarrow as pa

from pad_pipeline.engine.metrics import StageTiming
from pad_pipeline.engine.sample import Sample
from pad_pipeline.records import RecordError


@dataclass(slots=True)
class ChunkMessage:
    """What passes between operators: one chunk.

    `content` are its samples between stages, an Arrow IPC stream of its records at the end, or why
    a stage could not be built. `seconds` is the time by stage, `started_s` when the first stage
    took it (`time.time()`).
    """

    chunk: int
    content: list[Sample] | bytes | RecordError
    seconds: dict[str, float] = field(default_factory=dict)
    timings: list[StageTiming] = field(default_factory=list)
    started_s: float | None = None


def to_block(message: ChunkMessage) -> pa.Table:
    """The message as a block of one row, the column `payload`."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return pa.table({"payload": pa.array([data], pa.large_binary())})


def from_payload(payload: pa.LargeBinaryScalar) -> ChunkMessage:
    """The message of a block's row."""
    return pickle.loads(payload.as_buffer())
