"""Embedding a data set: what is written, that a killed run goes on, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.errors import UserError
from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.embed import embed
from pad_pipeline.similarity.store import find_embeddings, require_embeddings
from tests.dataset.example import write_dataset
from tests.similarity.scenes import write_scenes_with_copies

PCA = EmbedConfig(map="pca")


def files(url: str) -> dict[str, bytes]:
    folder = Path(url + ".embeddings")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_of_embeddings_follow_the_shards_row_by_row(shared_set: str) -> None:
    records = list(iter_records(open_dataset(shared_set)))
    tables = [pq.read_table(path) for path in sorted(Path(shared_set + ".embeddings").glob("pad*"))]
    assert [table.num_rows for table in tables] == [3, 3, 3]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["image_id"] for row in rows] == [record.image_id for record in records]
    for row, record in zip(rows, records, strict=True):
        assert (row["embedding"] is None) == (record.status == "failed")
        vectors = [row["embedding"], *row["regions"]] if row["embedding"] else []
        assert len(row["regions"]) == len(record.labels)
        assert np.allclose([np.linalg.norm(one) for one in vectors], 1, atol=2e-3)


def test_other_programs_open_data_set_and_embeddings(shared_set: str) -> None:
    assert pq.read_table(shared_set).num_rows == 9
    [row] = duckdb.sql(
        "SELECT count(*), count(embedding), sum(len(regions)) "
        f"FROM '{shared_set}.embeddings/pad-*.parquet'"
    ).fetchall()
    assert row[:2] == (9, 8)
    closest = duckdb.sql(
        "SELECT b.image_id FROM e a JOIN e b ON a.image_id = 'scene_0.png' AND b.image_id <> "
        "a.image_id WHERE b.embedding IS NOT NULL "
        "ORDER BY list_cosine_similarity(a.embedding, b.embedding) DESC LIMIT 1".replace(
            " e ", f" '{shared_set}.embeddings/pad-*.parquet' "
        )
    ).fetchall()
    assert closest == [("copy/jpeg.jpg",)]


def test_nothing_is_embedded_twice(url: str) -> None:
    before = files(url)
    report = embed(url, config=PCA)
    assert (report.num_shards_kept, report.num_images) == (3, 8)
    assert report.left_out == {"failed": 1}
    assert files(url) == before


def test_a_shard_that_changed_is_embedded_again(url: str) -> None:
    records = list(iter_records(open_dataset(url)))
    before = files(url)
    records[0] = replace(records[0], labels=(), status="empty")
    write_dataset(Path(url), records, models={"tag": {"model": "embedded"}})
    with pytest.raises(UserError, match="of other shards than the data set has now: run `pad"):
        find_embeddings(open_dataset(url))
    assert embed(url, config=PCA).num_shards_kept == 2
    changed = {name for name, data in files(url).items() if before[name] != data}
    assert changed == {"pad-00000.parquet", "_regions.faiss", "_manifest.json"}
    assert require_embeddings(open_dataset(url)).model == "embedded"


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, shared_set: str) -> None:
    url = write_scenes_with_copies(tmp_path)
    command = [sys.executable, "-m", "pad_pipeline", "embed", url, "--embed.map", "pca"]
    running = subprocess.Popen(
        [*command, "--embed.batch-size", "1"], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    first = Path(url + ".embeddings/pad-00000.parquet")
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert first.exists()
    assert json.loads(Path(url + ".embeddings/_manifest.json").read_text())["state"] == "running"
    with pytest.raises(UserError, match="not finished: run `pad-pipeline embed"):
        find_embeddings(open_dataset(url))
    assert embed(url, config=PCA).num_shards_kept >= 1
    table = pq.read_table(first)
    assert table["image_id"].to_pylist() == [f"scene_{number}.png" for number in range(3)]
    other = pq.read_table(shared_set + ".embeddings/pad-00000.parquet")
    a, b = (np.array(one["embedding"].to_pylist()) for one in (table, other))
    assert np.allclose(a, b, atol=2e-3)  # batches of another size round otherwise


def test_images_that_cannot_be_read_are_tried_again(tmp_path: Path) -> None:
    url = write_scenes_with_copies(tmp_path)
    missing = tmp_path / "images/scene_1.png"
    data = missing.read_bytes()
    missing.unlink()
    report = embed(url, config=PCA)
    assert report.left_out == {"image not readable": 1, "failed": 1}
    missing.write_bytes(data)
    report = embed(url, config=PCA)
    assert (report.num_images, report.num_shards_kept) == (8, 2)


def test_embeddings_without_regions_and_of_clip(tmp_path: Path, shared_set: str) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8, projection_dim=12,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    url = write_scenes_with_copies(tmp_path)
    report = embed(url, config=EmbedConfig(model=str(tmp_path / "clip"), map="pca"))
    assert report.num_regions > 8
    table = pq.read_table(url + ".embeddings/pad-00000.parquet")
    assert table.schema.field("embedding").type.list_size == 12
    with pytest.raises(UserError, match=r"another model's embeddings .*remove the folder"):
        embed(url, config=PCA)
    with pytest.raises(UserError, match=r"other embeddings .*with regions"):
        embed(url, config=EmbedConfig(model=str(tmp_path / "clip"), regions=False))


def test_what_cannot_be_embedded_is_refused(tmp_path: Path) -> None:
    url = write_scenes_with_copies(tmp_path, state="running")
    with pytest.raises(UserError, match="is not finished: run its annotate command again"):
        embed(url)
    url = write_scenes_with_copies(tmp_path)
    with pytest.raises(UserError, match=r"none of the 3 images of pad-00000.parquet .* images"):
        embed(url, images=str(tmp_path / "set"))
    bare = write_dataset(tmp_path / "bare", list(iter_records(open_dataset(url))))
    with pytest.raises(UserError, match=r"names no tagger, .*give embed.model"):
        embed(bare)
    with pytest.raises(UserError, match="has no embeddings: make them with `pad-pipeline embed"):
        require_embeddings(open_dataset(bare))
