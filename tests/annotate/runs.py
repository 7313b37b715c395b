"""A run of 21 images without stages: its ledger, records and completion."""

from __future__ import annotations

import random
from pathlib import Path

from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.resume import open_or_resume
from pad_pipeline.records import PadRecord, records_to_table
from pad_pipeline.sources import ManifestRow

ROWS = [ManifestRow(f"{i:03d}.png", f"/images/{i:03d}.png", f"caption {i}") for i in range(21)]


def begin(output: Path, rows=ROWS, identity=None) -> Ledger:
    return open_or_resume(
        str(output), rows, identity or {"box_threshold": 0.25}, rows_per_shard=8, chunk_size=2
    )


def records(ledger: Ledger, chunk: int):
    """Records of a chunk: a function of its images alone, as those of the stages are."""
    size = ledger.layout.chunk_size
    rows = ROWS[chunk * size : (chunk + 1) * size]
    return records_to_table(
        [
            PadRecord(
                image_id=row.image_id,
                uri=row.uri,
                width=4,
                height=3,
                caption=row.caption,
                status="failed" if row.image_id == "005.png" else "empty",
                error=None,
                tags=(),
                labels=(),
            )
            for row in rows
        ]
    )


def complete(ledger: Ledger, order: random.Random) -> None:
    chunks = [chunk for _, chunks in ledger.pending() for chunk in chunks]
    order.shuffle(chunks)
    for chunk in chunks:
        ledger.commit(chunk, records(ledger, chunk))
    ledger.flush()
    ledger.finish({})
