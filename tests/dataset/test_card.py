"""A data set's folder opens in other libraries as it is, by its card."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
import yaml
from datasets import load_dataset

from pad_pipeline.dataset.card import CARD, write_card
from tests.dataset.example import example_records, write_dataset

MANIFEST = {"models": {"tag": {"model": "a|b", "checksum": "sha256:" + "0" * 64}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", example_records(), models=MANIFEST["models"])
    (tmp_path / "set/_summary.json").write_text("{}")
    write_card(str(tmp_path / "set"), {"images": 7, "regions": 6}, MANIFEST)
    return tmp_path / "set"


def test_datasets_loads_the_folder(folder: Path, tmp_path: Path) -> None:
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert [row["image_id"] for row in loaded] == [one.image_id for one in example_records()]
    assert loaded[0]["labels"][0]["tag"] == "apple"
    assert loaded[0]["labels"][0]["bbox"] == list(example_records()[0].labels[0].bbox)


def test_data_frames_and_databases_read_the_shards(folder: Path) -> None:
    shards = str(folder / "*.parquet")
    wanted = [one.image_id for one in example_records()]
    assert pl.read_parquet(shards)["image_id"].to_list() == wanted
    assert (
        pd.concat(map(pd.read_parquet, sorted(folder.glob("*.parquet"))))["image_id"].tolist()
        == wanted
    )
    query = "SELECT image_id, region.tag FROM (SELECT image_id, unnest(labels) AS region FROM ?)"
    rows = duckdb.sql(query.replace("?", f"'{shards}'")).fetchall()
    assert rows == [
        (one.image_id, region.tag) for one in example_records() for region in one.labels
    ]


def test_the_card_says_what_there_is(folder: Path) -> None:
    text = (folder / CARD).read_text()
    head = yaml.safe_load(text.split("---")[1])
    [config] = head["configs"]
    assert config["data_files"] == [{"split": "train", "path": "*.parquet"}]
    assert "7 images, 6 regions." in text
    assert "| tag | a b | sha256:000000000000 |" in text


def test_a_readme_of_ones_own_is_left_alone(folder: Path) -> None:
    (folder / CARD).write_text("my notes")
    write_card(str(folder), {"images": 1}, {})
    assert (folder / CARD).read_text() == "my notes"
    (folder / CARD).unlink()
    write_card(str(folder), {"images": 1}, {})
    write_card(str(folder), {"images": 2}, {})
    assert "2 images." in (folder / CARD).read_text()
