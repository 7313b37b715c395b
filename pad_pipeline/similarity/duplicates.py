"""Near-duplicates: pairs of images that mean and look the same, and the groups that they form.

Embeddings alone would call two photographs of a red car near-duplicates: the thumbnails must agree
as well, as they are or mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pad_pipeline.dataset.writer import read_table, write_table
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.similarity.search import find_nearest, from_ids
from pad_pipeline.similarity.store import PAIRS, Embeddings

NEIGHBOURS = 32
"""Nearest images that are compared with each image."""
_SLACK = 0.02
"""How much less similar an index may think two vectors than they are."""
_AT_ONCE = 4096
_LEAST_CORRELATION = 0.85
"""Of two thumbnails. Among generated scenes whose embeddings are close, copies have 0.99 and
different ones up to 0.77; an image and its middle, a tenth smaller, have 0.85 and more."""
_FLAT = 2.0
"""Thumbnails that vary by less, in grey values of 0–255, show nothing."""


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are near-duplicates of each other, directly or by others between them.

    `rows` are their places in the data set, in order; `similarity` is that of the least
    similar pair among them that was found.
    """

    image_ids: tuple[str, ...]
    rows: tuple[int, ...]
    similarity: float


def find_pairs(
    vectors: NDArray[np.float16],
    thumbnails: NDArray[np.uint8],
    rows: NDArray[np.int64],
    index: Any,
    least: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of rows (P, 2), the smaller first, with a cosine of at least `least`, and that.

    Candidates are the nearest `NEIGHBOURS` by the index; each is compared by the vectors (N, width)
    and thumbnails (N, side, side) themselves, which belong to `rows` in ascending order.
    """
    looks, mirrored = _standardised(thumbnails), _standardised(thumbnails[:, :, ::-1])
    pairs, similarities = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for start in range(0, len(rows), _AT_ONCE):
        queries = vectors[start : start + _AT_ONCE].astype(np.float32)
        ids, close = find_nearest(index, queries, min(NEIGHBOURS + 1, len(rows)))
        own, column = np.nonzero((ids >= 0) & (close >= least - _SLACK))
        others = np.searchsorted(rows, from_ids(ids[own, column])[0])
        own += start
        different = own != others
        own, others = own[different], others[different]
        exact = np.einsum(
            "pw,pw->p", vectors[own].astype(np.float32), vectors[others].astype(np.float32)
        )
        alike = np.maximum(
            np.einsum("pw,pw->p", looks[own], looks[others]),
            np.einsum("pw,pw->p", looks[own], mirrored[others]),
        )
        kept = (exact >= least) & (alike >= _LEAST_CORRELATION)
        found = np.sort(np.stack([rows[own[kept]], rows[others[kept]]], axis=1), axis=1)
        pairs.append(found)
        similarities.append(exact[kept])
    every, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return every, np.concatenate(similarities)[first].clip(max=1)


def _standardised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Thumbnails as rows whose product is their correlation; flat ones have 1 with each other."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat[flat.std(axis=1) < _FLAT] = 1
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def write_pairs(
    url: str,
    pairs: NDArray[np.int64],
    similarities: NDArray[np.float32],
    image_ids: Sequence[str],
) -> None:
    """Writes pairs of near-duplicates, the most similar first, as Parquet."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarities))
    pairs, similarities = pairs[order], similarities[order]
    columns: dict[str, Any] = {}
    for column, name in enumerate(("a", "b")):
        columns[f"image_{name}"] = pa.array([image_ids[row] for row in pairs[:, column]], "string")
        columns[f"row_{name}"] = pairs[:, column]
    write_table(url, pa.table({**columns, "similarity": similarities}))


def read_groups(embeddings: Embeddings, least: float | None = None) -> list[Group]:
    """Groups of near-duplicates with at least this similarity, the largest first.

    Without `least`, that with which the embeddings were made, below which no pairs are kept:
    raises `UserError` where a lower one is asked for.
    """
    lowest = embeddings.duplicates_from
    if least is not None and least < lowest:
        raise UserError(
            f"pairs were kept from a similarity of {lowest:g} on: run `pad-pipeline embed` with ",
            Setting("embed.duplicates_from", least),
            " first, which keeps the embeddings",
        )
    table = read_table(embeddings.place(PAIRS))
    table = table.filter(np.asarray(table["similarity"]) >= np.float32(least or lowest))
    ids = dict(zip(table["row_a"].to_pylist(), table["image_a"].to_pylist(), strict=True))
    ids.update(zip(table["row_b"].to_pylist(), table["image_b"].to_pylist(), strict=True))
    rows = np.array(sorted(ids), np.int64)
    a, b = (np.searchsorted(rows, table[name].to_numpy()) for name in ("row_a", "row_b"))
    similarities = table["similarity"].to_numpy()
    links = coo_array((np.ones(len(a)), (a, b)), shape=(len(rows), len(rows)))
    num_groups, labels = connected_components(links, directed=False)
    weakest = np.ones(num_groups, np.float32)
    np.minimum.at(weakest, labels[a], similarities)
    members: list[list[int]] = [[] for _ in range(num_groups)]
    for row, label in zip(rows.tolist(), labels, strict=True):
        members[label].append(row)
    groups = [
        Group(tuple(ids[row] for row in one), tuple(one), float(weakest[label]))
        for label, one in enumerate(members)
    ]
    return sorted(groups, key=lambda group: (-len(group.rows), group.rows))


def representatives(groups: Sequence[Group]) -> dict[str, str]:
    """For each image of a group, the first id of the group by its letters."""
    return {name: min(group.image_ids) for group in groups for name in group.image_ids}
