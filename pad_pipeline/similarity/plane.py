"""A place on a plane for every image: by UMAP where it is installed, else by principal axes."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.errors import Setting, UserError

logger = logging.getLogger(__name__)

MapKind = Literal["umap", "pca"]
_AT_ONCE = 16_384
_LEARNT_FROM = 50_000
"""Images from which UMAP learns the plane; the others are placed on it."""


def choose_kind(wanted: Literal["auto", "umap", "pca"]) -> MapKind:
    """How a map is made here; raises `UserError` where UMAP is asked for and not installed."""
    installed = find_spec("umap") is not None
    if wanted == "umap" and not installed:
        raise UserError(
            Setting("embed.map", "umap"), " needs a package: pip install umap-learn, or use ",
            Setting("embed.map", "pca"),
        )  # fmt: skip
    return "umap" if installed and wanted != "pca" else "pca"


def place_on_plane(vectors: NDArray[np.float16], kind: MapKind) -> NDArray[np.float32]:
    """The places of vectors (N, width): (N, 2) float32, each axis from 0 to 1."""
    if len(vectors) < 4:  # too few for axes
        places = np.zeros((len(vectors), 2), np.float32)
        places[:, 0] = np.arange(len(vectors))
    else:
        axes = 2 if kind == "pca" else min(50, vectors.shape[1], len(vectors) - 1)
        places = _principal(vectors, axes)
        if kind == "umap":
            places = _umap(places)
    low, high = (places.min(0), places.max(0)) if len(places) else (np.zeros(2), np.ones(2))
    return ((places - low) / np.maximum(high - low, 1e-9)).astype(np.float32)


def _principal(vectors: NDArray[np.float16], axes: int) -> NDArray[np.float32]:
    """The first coordinates of vectors along the axes of their greatest variance."""
    width = vectors.shape[1]
    total, products = np.zeros(width), np.zeros((width, width))
    for start in range(0, len(vectors), _AT_ONCE):
        part = vectors[start : start + _AT_ONCE].astype(np.float32)
        total += part.sum(0, dtype=np.float64)
        products += part.T @ part
    mean = total / len(vectors)
    _, directions = np.linalg.eigh(products / len(vectors) - np.outer(mean, mean))
    chosen = directions[:, ::-1][:, :axes]
    # an axis may point either way: its largest part is positive
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(0), np.arange(axes)])
    chosen, mean = chosen.astype(np.float32), mean.astype(np.float32)
    found = np.empty((len(vectors), axes), np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        part = vectors[start : start + _AT_ONCE].astype(np.float32)
        found[start : start + _AT_ONCE] = (part - mean) @ chosen
    return found


def _umap(points: NDArray[np.float32]) -> NDArray[np.float32]:
    import umap  # pyright: ignore[reportMissingImports]

    learnt = np.random.default_rng(0).permutation(len(points))[:_LEARNT_FROM]
    neighbours = min(15, len(learnt) - 1)
    model = umap.UMAP(n_neighbors=neighbours, random_state=0, n_jobs=1)
    logger.info("placing %s images on a plane by UMAP", f"{len(points):,}")
    places = np.empty((len(points), 2), np.float32)
    places[learnt] = model.fit_transform(points[learnt])
    others = np.setdiff1d(np.arange(len(points)), learnt)
    for start in range(0, len(others), _AT_ONCE):
        part = others[start : start + _AT_ONCE]
        places[part] = model.transform(points[part])
    return places
