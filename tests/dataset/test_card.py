"""Shards open in other libraries as they are; the card of an export says what it is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from pad_pipeline.dataset.card import format_card
from pad_pipeline.dataset.manifest import write_manifest
from tests.dataset.example import example_records, write_dataset

MANIFEST = {"models": {"tag": {"model": "a|b", "checksum": "sha256:" + "0" * 64}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", example_records())
    (tmp_path / "set/_summary.json").write_text("{}")
    return tmp_path / "set"


def test_datasets_loads_the_shards(folder: Path, tmp_path: Path) -> None:
    manifest = {"state": "finished", "shards": [{"name": "pad-00000.parquet"}]}
    write_manifest(str(folder), manifest)
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert [row["image_id"] for row in loaded] == [one.image_id for one in example_records()]
    assert loaded[0]["labels"][0]["tag"] == "apple"
    assert loaded[0]["labels"][0]["bbox"] == list(example_records()[0].labels[0].bbox)


def test_data_frames_and_databases_read_the_folder(folder: Path) -> None:
    write_manifest(str(folder), {"state": "finished"})
    assert (folder / ".huggingface.yaml").is_file()
    wanted = [one.image_id for one in example_records()]
    assert pq.read_table(folder)["image_id"].to_pylist() == wanted
    assert pd.read_parquet(folder)["image_id"].tolist() == wanted
    assert pl.read_parquet(str(folder / "*.parquet"))["image_id"].to_list() == wanted
    rows = duckdb.sql(
        "SELECT image_id, region.tag FROM "
        f"(SELECT image_id, unnest(labels) AS region FROM '{folder}/*.parquet')"
    ).fetchall()
    assert rows == [(one.image_id, label.tag) for one in example_records() for label in one.labels]


def test_the_card_says_what_there_is() -> None:
    text = format_card({"train": "*.parquet"}, {"images": 7, "regions": 6}, MANIFEST)
    head = yaml.safe_load(text.split("---")[1])
    [config] = head["configs"]
    assert config["data_files"] == [{"split": "train", "path": "*.parquet"}]
    assert "7 images, 6 regions." in text
    assert "| tag | a b | sha256:000000000000 |" in text
