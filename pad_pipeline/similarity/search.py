"""Indexes of embeddings by faiss: exact for small data sets, compressed lists for large ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.similarity.store import Vectors

EXACT_UP_TO = 20_000
"""Vectors that are all compared with a query; of more, those in the lists nearest to it."""
_REDUCED_WIDTH = 128
_MOST_LISTS = 4096
_LISTS_SEARCHED, _LISTS_SEARCHED_FOR_ONE = 16, 128
"""For each of many queries, whose near-duplicates lie close; for one, whose nearest all count."""
_TRAINED_ON_PER_LIST = 40
_REGION_BITS = 16
"""An id is an image's row and, in so many bits, the number of its region."""


def load_faiss() -> Any:
    """The module; raises `UserError` where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            f"embeddings are searched by faiss, which is not installed ({error}): "
            "pip install 'pad-pipeline[similarity]'"
        ) from error
    return faiss


def to_ids(rows: NDArray[np.int64], numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    """The ids by which an index knows images (number 0) or regions."""
    return (rows.astype(np.int64) << _REGION_BITS) | numbers


def from_ids(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Rows and numbers of ids."""
    return ids >> _REGION_BITS, (ids & ((1 << _REGION_BITS) - 1)).astype(np.int32)


def build_index(read: Callable[[], Iterable[Vectors]], count: int, width: int) -> Any:
    """An index of `count` vectors of length 1, which `read` gives shard by shard each time.

    Up to `EXACT_UP_TO` vectors are kept as they are. More are rotated to their 128 principal
    directions, kept in 8 bits a direction, and put into lists by their nearest centre; of those
    lists a search reads the few that are nearest to its query.
    """
    faiss = load_faiss()
    if count <= EXACT_UP_TO:
        index = faiss.IndexIDMap2(faiss.IndexFlatL2(width))
    else:
        lists = min(int(4 * count**0.5), _MOST_LISTS)
        reduced = f"PCAR{_REDUCED_WIDTH}," if width > _REDUCED_WIDTH else ""
        index = faiss.index_factory(width, f"{reduced}IVF{lists},SQ8", faiss.METRIC_L2)
        inner = faiss.extract_index_ivf(index)
        inner.nprobe = _LISTS_SEARCHED
        inner.cp.niter = 6
        index.train(np.concatenate(list(_sample(read(), _TRAINED_ON_PER_LIST * lists, count))))
    for vectors in read():
        if len(vectors.rows):
            ids = to_ids(vectors.rows, vectors.numbers)
            index.add_with_ids(vectors.values.astype(np.float32), ids)
    return index


def _sample(read: Iterable[Vectors], wanted: int, count: int) -> Iterator[NDArray[np.float32]]:
    """About `wanted` of `count` vectors, from all shards alike."""
    choose = np.random.default_rng(0)
    for vectors in read:
        chosen = choose.random(len(vectors.rows)) < wanted / count
        yield vectors.values[chosen].astype(np.float32)


def find_nearest(
    index: Any, queries: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids of the `count` nearest vectors of each query, (Q, count), and their similarity.

    The similarity is the cosine, in the index's own precision; an id of -1 stands for no vector.
    """
    distances, ids = index.search(np.ascontiguousarray(queries, np.float32), count)
    return ids, 1 - distances / 2


def save_index(index: Any, url: str) -> None:
    """Writes an index to a file, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        load_faiss().write_index(index, str(path))
        storage.upload(path, url)


def open_index(path: Path) -> Any:
    """An index in a local file, for single queries; what they need is read from there.

    Raises `UserError` where it is damaged.
    """
    faiss = load_faiss()
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise UserError(f"{path} is damaged: run `pad-pipeline embed` again") from error
    if not isinstance(index, faiss.IndexIDMap2):
        faiss.extract_index_ivf(index).nprobe = _LISTS_SEARCHED_FOR_ONE
    return index
