"""Shards: their names sort, their bytes repeat, their entries hold checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pad_pipeline.dataset.writer import manifest_entry, read_table, shard_name, write_table
from pad_pipeline.errors import UserError
from pad_pipeline.records import records_to_table
from tests.dataset.example import example_records


def test_names_sort_in_the_order_of_the_images() -> None:
    assert shard_name(3, 12) == "pad-00003.parquet"
    assert shard_name(3, 100_001) == "pad-000003.parquet"
    names = [shard_name(number, 100_001) for number in (0, 9, 10, 99_999, 100_000)]
    assert names == sorted(names)


def test_a_table_gives_the_same_bytes_and_comes_back(tmp_path: Path) -> None:
    table = records_to_table(example_records())
    for name in ("a", "b"):
        write_table(f"{tmp_path}/{name}", table, row_group_size=4)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_table(f"{tmp_path}/a") == table
    assert read_table(f"{tmp_path}/a", ["status"]).column_names == ["status"]
    assert manifest_entry(str(tmp_path), "a", 7) == {
        "name": "a",
        "rows": 7,
        "sha256": hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest(),
    }


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match=r"x\.parquet cannot be read .* delete it"):
        read_table(f"{tmp_path}/x.parquet")
