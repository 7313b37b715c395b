"""One training sample as a picture: its frame, the patches of its regions, its tokens."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.train.inspect.page import (
    DPI,
    GAP,
    MARGIN,
    PAPER,
    PICTURE,
    TITLES,
    WIDTH,
    write_title,
)
from pad_pipeline.train.inspect.region_panel import (
    covered_patches,
    draw_legend,
    draw_regions,
    show_frame,
)
from pad_pipeline.train.inspect.token_panel import TOKEN_ROW, TOKENS_HEAD, draw_tokens, wrap_tokens


def draw_sample(
    pixels: NDArray[np.uint8],
    coverage_RP: NDArray[np.floating],
    tags: Sequence[str],
    tokens: Sequence[tuple[str, bool]],
    path: str | Path,
) -> None:
    """Write a PNG (a path or fsspec URL) of one sample as the model sees it.

    `pixels` is the frame, HWC uint8 RGB before normalisation. `coverage_RP` (R, grid²) says for
    each region which fraction of each patch it covers, 0–1, row-major; patches covered by at least
    half are tinted in the colour of the region's tag. `tokens` are the strings of the sequence in
    order, each with whether its prediction is supervised. Raises `UserError` where the file cannot
    be written, `ValueError` where the shapes do not fit each other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    covered = covered_patches(coverage_RP, tags)
    rows = wrap_tokens(tokens, WIDTH - 2 * MARGIN)
    top = MARGIN + TITLES + PICTURE
    height = top + TOKENS_HEAD + TOKEN_ROW * len(rows) + MARGIN - 0.15
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    left, right = MARGIN, MARGIN + PICTURE + GAP
    frame_height, frame_width = pixels.shape[:2]
    write_title(figure, left, "The frame", f"{frame_width}×{frame_height} pixels")
    show_frame(figure, left, pixels)
    grid = covered.shape[1]
    num_seen = int(covered.any(axis=(1, 2)).sum())
    write_title(
        figure,
        right,
        "Patches at least half covered",
        f"{grid}×{grid}, {num_seen} of {len(tags)} regions have one",
    )
    draw_regions(show_frame(figure, right, pixels), covered, tags, pixels.shape)
    draw_legend(figure, right + PICTURE + GAP, covered, tags)
    draw_tokens(figure, top, rows, tokens)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=PAPER)
    storage.write_atomic(str(path), file.getvalue())
