"""Killed at any moment, a run goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pad_pipeline import storage
from pad_pipeline.annotate import ledger as ledger_module
from tests.annotate.runs import ROWS, begin, complete, records


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
    assert sorted(reference) == [".huggingface.yaml", "_manifest.json", *names]
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
    names = ("write_atomic", "write_json", "remove_tree")
    operations = {name: getattr(storage, name) for name in names}

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


def test_the_same_chunk_from_two_writers_counts_once(tmp_path: Path, reference) -> None:
    first, second = begin(tmp_path / "out"), begin(tmp_path / "out")
    for ledger in (first, second):
        ledger.commit(0, records(ledger, 0))
        ledger.flush()
    third = begin(tmp_path / "out")
    assert third.num_finished == 2
    complete(third, random.Random(1))
    assert digests(tmp_path / "out") == reference


def test_records_of_other_images_are_never_written_as_a_shard(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    for chunk in range(3):
        ledger.commit(chunk, records(ledger, chunk ^ 1))
    with pytest.raises(AssertionError, match="not those of its images"):
        ledger.commit(3, records(ledger, 2))
