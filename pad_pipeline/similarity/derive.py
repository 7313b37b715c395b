"""What is computed of all embeddings together: indexes to search, near-duplicates, and the map."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.dataset.reader import Dataset, iter_batches
from pad_pipeline.dataset.writer import write_table
from pad_pipeline.similarity import store
from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.duplicates import find_pairs, write_pairs
from pad_pipeline.similarity.plane import MapKind, choose_kind, place_on_plane
from pad_pipeline.similarity.search import build_index, save_index

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Derived:
    """What was found of all embeddings."""

    num_pairs: int
    map_kind: MapKind


def derive(folder: str, dataset: Dataset, config: EmbedConfig) -> Derived:
    """Writes the indexes, the pairs and the map into the folder of the embeddings.

    The images' vectors are kept in a temporary file meanwhile, not in memory.
    """
    kind = choose_kind(config.map)
    ids = [
        name
        for _, batch in iter_batches(dataset, ["image_id"])
        for name in batch.column("image_id").to_pylist()
    ]
    read = partial(store.iter_vectors, folder, dataset)
    rows = np.concatenate([one.rows for one in read(of_regions=False)] or [np.zeros(0, np.int64)])
    with tempfile.TemporaryDirectory() as temporary:
        vectors = _on_disk(folder, dataset, len(rows), Path(temporary) / "vectors")
        width = vectors.shape[1]
        index = build_index(partial(read, of_regions=False), len(rows), width)
        save_index(index, storage.join(folder, store.IMAGES_INDEX))
        logger.info("looking for near-duplicates of %s images", f"{len(rows):,}")
        pairs, similarities = find_pairs(
            vectors, store.read_thumbnails(folder, dataset), rows, index, config.duplicates_from
        )
        write_pairs(storage.join(folder, store.PAIRS), pairs, similarities, ids)
        del index
        places = place_on_plane(vectors, kind)
    columns = {
        "image_id": pa.array([ids[row] for row in rows], pa.string()),
        "row": rows, "x": places[:, 0], "y": places[:, 1],
    }  # fmt: skip
    write_table(storage.join(folder, store.MAP), pa.table(columns))
    if config.regions:
        count = sum(len(one.rows) for one in read(of_regions=True))
        regions = build_index(partial(read, of_regions=True), count, width)
        save_index(regions, storage.join(folder, store.REGIONS_INDEX))
    return Derived(len(pairs), kind)


def _on_disk(folder: str, dataset: Dataset, count: int, path: Path) -> np.ndarray:
    """The vectors of all images that have one, (count, width) float16, in a file."""
    width, start = store.width_of(folder, dataset), 0
    if not count:  # a file cannot be empty
        return np.zeros((0, width), np.float16)
    vectors = np.memmap(path, np.float16, "w+", shape=(count, width))
    for one in store.iter_vectors(folder, dataset, of_regions=False):
        vectors[start : start + len(one.rows)] = one.values
        start += len(one.rows)
    return vectors
