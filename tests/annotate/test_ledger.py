"""Killed at any moment, a run goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pad_pipeline import storage
from pad_pipeline.annotate import ledger as ledger_module
from pad_pipeline.annotate.ledger import Layout, Ledger, open_or_resume
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, records_to_table
from pad_pipeline.sources import ManifestRow

ROWS = [ManifestRow(f"{i:03d}.png", f"/images/{i:03d}.png", f"caption {i}") for i in range(21)]


def begin(output: Path, rows=ROWS, identity=None) -> Ledger:
    return open_or_resume(
        str(output), rows, identity or {"box_threshold": 0.25}, rows_per_shard=8, chunk_size=2
    )


def records(ledger: Ledger, chunk: int):
    """What the stages would say of a chunk; a pure function of its images, as theirs is."""
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


def digests(output: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.iterdir())
        if path.is_file()
    }


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, str]:
    complete(begin(tmp_path / "reference"), random.Random(0))
    return digests(tmp_path / "reference")


def test_shards_hold_the_images_in_their_order(tmp_path: Path, reference) -> None:
    output = tmp_path / "reference"
    names = [f"pad-{k:05d}.parquet" for k in range(3)]
    assert sorted(reference) == ["_manifest.json", *names]
    ids = [pq.read_table(output / name)["image_id"].to_pylist() for name in names]
    assert [len(shard) for shard in ids] == [8, 8, 5]
    assert [name for shard in ids for name in shard] == [row.image_id for row in ROWS]
    assert pq.read_table(output)["caption"].to_pylist() == [row.caption for row in ROWS]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process's memory survives."""


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_file_operation_and_begun_again(
    tmp_path: Path, reference, monkeypatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(ledger_module, "FLUSH_INTERVAL_S", 0.0)
    operations = {name: getattr(storage, name) for name in ("write_atomic", "remove_tree")}

    def deadly(name):
        def operation(*args):
            if chance.random() < 0.15:
                raise Killed
            operations[name](*args)
            if chance.random() < 0.15:
                raise Killed

        return operation

    for name in operations:
        monkeypatch.setattr(storage, name, deadly(name))
    output = tmp_path / "out"
    kills = 0
    while True:
        try:
            ledger = begin(output)
            if not ledger.finished:
                complete(ledger, chance)
            break
        except Killed:
            kills += 1
            assert kills < 500
    assert kills > 0
    monkeypatch.undo()
    assert digests(output) == reference
    assert not (output / "_run").exists()
    assert begin(output).num_failed == 1


@pytest.mark.parametrize("is_finished", [False, True])
def test_nothing_that_a_killed_run_has_left_remains(
    tmp_path: Path, reference, is_finished: bool
) -> None:
    output = tmp_path / "reference" if is_finished else tmp_path / "out"
    ledger = begin(output)
    for folder in (output, output / "_run" / "progress" / "00001"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".tmp-0123456789abcdef").write_bytes(b"half a fi")
    if is_finished:
        begin(output)
    else:
        complete(ledger, random.Random(1))
    assert {path.name for path in output.iterdir()} == set(reference)


def test_finished_chunks_are_not_pending_again(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    ledger.commit(1, records(ledger, 1))
    ledger.commit(6, records(ledger, 6))
    ledger.flush()
    again = begin(tmp_path)
    assert dict(again.pending()) == {0: [0, 2, 3], 1: [4, 5, 7], 2: [8, 9, 10]}
    assert again.num_finished == 4


def test_the_same_chunk_from_two_writers_counts_once(tmp_path: Path, reference) -> None:
    first, second = begin(tmp_path / "out"), begin(tmp_path / "out")
    for ledger in (first, second):
        ledger.commit(0, records(ledger, 0))
        ledger.flush()
    third = begin(tmp_path / "out")
    assert third.num_finished == 2
    complete(third, random.Random(1))
    assert digests(tmp_path / "out") == reference


def test_another_config_is_refused_by_name(tmp_path: Path) -> None:
    ledger = begin(tmp_path, identity={"detect": {"box_threshold": 0.25}})
    ledger.commit(0, records(ledger, 0))
    with pytest.raises(UserError, match=r"detect\.box_threshold was 0\.25 and is 0\.3"):
        begin(tmp_path, identity={"detect": {"box_threshold": 0.3}})


def test_a_run_that_finished_nothing_may_begin_anew_with_another_config(tmp_path: Path) -> None:
    begin(tmp_path, identity={"device": "cuda"})
    ledger = begin(tmp_path, ROWS[:-1], identity={"device": "cpu"})
    assert ledger.layout.num_images == 20
    assert ledger.manifest["identity"] == {"device": "cpu"}


def test_another_source_is_refused(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    ledger.commit(0, records(ledger, 0))
    with pytest.raises(UserError, match="had 21 images and has 20 now"):
        begin(tmp_path, ROWS[:-1])


def test_foreign_parquet_files_are_not_mixed_with_ours(tmp_path: Path) -> None:
    pq.write_table(records(begin(tmp_path / "a"), 0), tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"already holds Parquet files \(other.parquet\)"):
        begin(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    for chunk in range(4):
        ledger.commit(chunk, records(ledger, chunk))
    (tmp_path / "pad-00000.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match=r"pad-00000\.parquet cannot be read .* delete it"):
        begin(tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_manifest.json").write_text('{"format": "coco"}')
    with pytest.raises(UserError, match="not the manifest of a PAD data set"):
        begin(tmp_path)
    (tmp_path / "_manifest.json").write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        begin(tmp_path)


def test_records_of_other_images_are_never_written_as_a_shard(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    for chunk in range(3):
        ledger.commit(chunk, records(ledger, chunk ^ 1))
    with pytest.raises(AssertionError, match="not those of its images"):
        ledger.commit(3, records(ledger, 2))


def test_layout_covers_every_image_once() -> None:
    layout = Layout(num_images=21, rows_per_shard=8, chunk_size=2)
    chunks = [chunk for shard in range(layout.num_shards) for chunk in layout.chunks_of(shard)]
    assert chunks == list(range(11))
    assert [layout.shard_of(chunk) for chunk in chunks] == list(np.repeat([0, 1, 2], [4, 4, 3]))
    assert sum(layout.shard_rows(shard) for shard in range(3)) == 21
    big = Layout(num_images=10**9, rows_per_shard=2048, chunk_size=32)
    assert big.shard_name(3) == "pad-000003.parquet"
