"""How a run stands, from its files: finished, running, interrupted; what was counted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pad_pipeline.annotate.heartbeat import Heartbeat
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.resume import open_or_resume
from pad_pipeline.annotate.run_files import status_url
from pad_pipeline.annotate.status import read_status
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, RecordError, records_to_table
from pad_pipeline.sources import ManifestRow
from pad_pipeline.storage.locks import only_run_on

ROWS = [ManifestRow(f"{index:02d}.png", f"/images/{index:02d}.png", None) for index in range(10)]


def records(start: int, stop: int, failed: tuple[int, ...] = ()) -> pa.Table:
    return records_to_table(
        [
            PadRecord(
                image_id=ROWS[index].image_id,
                uri=ROWS[index].uri,
                width=0 if index in failed else 8,
                height=0 if index in failed else 8,
                caption=None,
                status="failed" if index in failed else "empty",
                error=RecordError("decode", "ImageError", "cut off") if index in failed else None,
                tags=(),
                labels=(),
            )
            for index in range(start, stop)
        ]
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A run of ten images in shards of four and chunks of two; six are done, one has failed."""
    output = str(tmp_path / "out")
    ledger = open_or_resume(output, ROWS, {"config": 1}, rows_per_shard=4, chunk_size=2)
    ledger.commit(0, records(0, 2))
    ledger.commit(1, records(2, 4, failed=(3,)))
    ledger.commit(3, records(6, 8))
    ledger.flush()
    return ledger


def describe() -> dict:
    return {"images_per_s": 2.0, "stages": {"tag": {"images": 6}}}


def no_wait(seconds: float) -> None: ...


def test_a_live_run_is_running_with_its_rate(ledger: Ledger) -> None:
    with only_run_on(ledger.output), Heartbeat(ledger.output, describe):
        found = read_status(ledger.output)
    assert (found.state, found.num_done, found.num_images) == ("running", 6, 10)
    assert found.failures == {"decode: ImageError": 1}
    assert (found.images_per_s, found.seconds_left) == (2.0, 2.0)
    assert found.stages == {"tag": {"images": 6}}
    assert found.seconds_since_sign is None


def test_a_run_that_was_stopped_has_a_reason(ledger: Ledger) -> None:
    with pytest.raises(UserError), Heartbeat(ledger.output, describe):
        raise UserError("the disk is full")
    found = read_status(ledger.output)
    assert (found.state, found.reason, found.num_done) == ("interrupted", "the disk is full", 6)
    assert found.images_per_s is None


def test_a_run_that_was_killed_is_interrupted_at_once_on_its_machine(ledger: Ledger) -> None:
    heartbeat = Heartbeat(ledger.output, describe)
    heartbeat._write("running", None)
    found = read_status(ledger.output, wait=no_wait)
    assert found.state == "interrupted"
    assert found.seconds_since_sign is not None
    assert found.seconds_since_sign < 60


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_run_on_another_machine_whose_clock_is_off_is_read_twice(
    ledger: Ledger, is_alive: bool
) -> None:
    status_file = Path(status_url(ledger.output))
    heartbeat = {
        "state": "running",
        "reason": None,
        "interval_s": 5.0,
        "where": "process 1 on elsewhere",
    }
    heartbeat |= {"written_at": time.time() - 3600, **describe()}
    status_file.write_text(json.dumps(heartbeat))
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if is_alive:
            status_file.write_text(
                json.dumps({**heartbeat, "written_at": heartbeat["written_at"] + 5})
            )

    found = read_status(ledger.output, wait=wait)
    assert found.state == ("running" if is_alive else "interrupted")
    assert waits == [6.0]


def test_a_finished_data_set_is_finished(ledger: Ledger) -> None:
    ledger.commit(2, records(4, 6))
    ledger.commit(4, records(8, 10))
    ledger.finish({"source": "images"})
    found = read_status(ledger.output)
    assert (found.state, found.num_done, found.failures) == (
        "finished",
        10,
        {"decode: ImageError": 1},
    )
    assert json.loads(json.dumps(found.to_dict()))["state"] == "finished"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a data set of this program"):
        read_status(str(tmp_path))
