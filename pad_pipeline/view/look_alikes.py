"""What the pages read of a data set's embeddings: neighbours, near-duplicates and the map."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.dataset.reader import Dataset, open_dataset
from pad_pipeline.dataset.writer import read_table
from pad_pipeline.errors import UserError
from pad_pipeline.similarity.duplicates import Group, read_groups
from pad_pipeline.similarity.search import find_nearest, from_ids, open_index
from pad_pipeline.similarity.store import (
    IMAGES_INDEX,
    MAP,
    REGIONS_INDEX,
    Embeddings,
    folder_of,
    manifest_version,
    read_vector,
    require_embeddings,
)
from pad_pipeline.view.index import cache_folder
from pad_pipeline.view.lasso import CELLS
from pad_pipeline.view.queries import Index
from pad_pipeline.view.source import DataSet

_LOOK_PERIOD_S = 10.0
_MARGIN = 0.02
"""Of the map's side that stays free around all images."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image, or one region of it by its number, and its cosine similarity to another."""

    position: int
    region: int | None
    similarity: float


class LookAlikes:
    """Opened embeddings; usable from any thread. Indexes are opened when they are first searched.

    Raises `UserError` where there are no embeddings, or not those of all shards that can be read.
    """

    def __init__(self, url: str, index: Index) -> None:
        self._dataset: Dataset = open_dataset(url)
        self.embeddings: Embeddings = require_embeddings(self._dataset)
        if index.problems or index.stats.num_images != self._dataset.num_rows:
            raise UserError(
                "look-alikes are not shown while shards cannot be read: copy these again, or run "
                f"`pad-pipeline validate {url}` to see which"
            )
        index.put_on_map(_places(self.embeddings))
        self._lock = threading.Lock()
        self._opened: dict[str, Any] = {}
        self.groups = lru_cache(maxsize=16)(self._groups)

    def nearest(self, position: int, region: int | None, count: int) -> list[Neighbour]:
        """What is most like an image, or like one of its regions, the most alike first.

        Raises `UserError` where that image or region has no embedding.
        """
        vector = read_vector(self.embeddings.url, self._dataset, position, region)
        if vector is None:
            raise UserError(
                "the image has no embedding: it failed, or could not be read when `embed` ran"
                if region is None
                else "this region has no embedding: its mask is empty, or `embed` left regions out"
            )
        index = self._open(IMAGES_INDEX if region is None else REGIONS_INDEX)
        ids, similarities = find_nearest(index, vector[None].astype(np.float32), count + 1)
        rows, numbers = from_ids(ids[0])
        found = [
            Neighbour(row, None if region is None else number, min(similarity, 1.0))
            for row, number, similarity in zip(
                rows.tolist(), numbers.tolist(), similarities[0].tolist(), strict=True
            )
            if row >= 0 and (row, number) != (position, region or 0)
        ]
        return found[:count]

    def _groups(self, least: float | None) -> list[Group]:
        return read_groups(self.embeddings, least)

    def _open(self, name: str) -> Any:
        with self._lock:
            if name not in self._opened:
                url = self.embeddings.place(name)
                if not storage.exists(url):
                    raise UserError(f"{url} is not there: run `pad-pipeline embed` again")
                self._opened[name] = open_index(storage.local_path(url) or _local_copy(url))
            return self._opened[name]


class CurrentLookAlikes:
    """The embeddings of what a viewer shows now, opened once for each index and run of `embed`."""

    def __init__(self, data: DataSet, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._data = data
        self._clock = clock
        self._look_again_at_s = clock()
        self._are_there = False
        self._lock = threading.Lock()
        self._key: tuple[Path, str] | None = None
        self._opened: LookAlikes | None = None

    @property
    def are_there(self) -> bool:
        """Whether there is a folder of embeddings, of whatever state; looked for now and then."""
        now = self._clock()
        if not self._are_there and now >= self._look_again_at_s:
            self._look_again_at_s = now + _LOOK_PERIOD_S
            self._are_there = bool(manifest_version(folder_of(self._data.url)))
        return self._are_there

    def get(self) -> LookAlikes:
        """The opened embeddings; raises `UserError` as `LookAlikes` does."""
        index = self._data.index
        with self._lock:
            key = (index.path, manifest_version(folder_of(self._data.url)))
            if self._opened is None or self._key != key:
                self._opened = LookAlikes(self._data.url, index)
                self._key = key
            return self._opened


def _places(embeddings: Embeddings) -> pa.Table:
    """The images' places as cells of the map, by position."""
    table = read_table(embeddings.place(MAP))
    within = CELLS * (1 - 2 * _MARGIN) - 1
    x, y = ((CELLS * _MARGIN + within * table[name].to_numpy()).astype(np.int32) for name in "xy")
    return pa.table({"position": table["row"].cast(pa.int32()), "cell": y * CELLS + x})


def _local_copy(url: str) -> Path:
    """A copy of a remote index in the cache, of this version."""
    version = f"{url}\0{storage.version(url)}"
    folder = cache_folder() / "look-alikes" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / f"{hashlib.sha256(version.encode()).hexdigest()[:24]}.faiss"
    if not path.exists():
        with storage.user_errors(str(folder), "write the search index to"):
            folder.mkdir(parents=True, exist_ok=True)
            storage.download(url, path)
        for old in folder.glob("*.faiss"):
            if old != path:
                old.unlink(missing_ok=True)
    return path
