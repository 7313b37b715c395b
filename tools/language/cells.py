"""What stands in the place of an image in the language model's texts: a grid of vectors.

The vector of a cell says in words what is there (the sum of the embeddings of kind and colour), and
in numbers the box of that thing and where the cell stands. A large model learns from tables, code
and dialogues to look things up that stand before a question. This small one learns it from such
grids. No image takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pad_pipeline.scenes.generator import KINDS
from pad_pipeline.scenes.questions import on_padded_square
from tools.language.corpus import Boxed
from tools.language.frames import COLOURS, GRID

WORDS = (*KINDS, *COLOURS)
NUM_CODES = 7
"""Edges of the box, the cell's column and row, and whether there is a thing."""

_LEAST_SHARE = 0.3
_BOX_NOISE, _PLACE_NOISE = 0.03, 0.02


@dataclass(frozen=True, slots=True)
class Cells:
    """A grid, row by row: `words` (64, words) float32 are the weights of `WORDS` in each cell,
    `codes` (64, `NUM_CODES`) float32 its numbers, about -1 to 1."""

    words: np.ndarray
    codes: np.ndarray


def make_cells(size: tuple[int, int], things: Sequence[Boxed], rng: np.random.Generator) -> Cells:
    """The grid over the padded square of an image with these things, the later ones before the
    earlier; its numbers are a little off in each cell."""
    edges = np.arange(GRID + 1) / GRID
    centres = (edges[:-1] + edges[1:]) / 2
    words = np.zeros((GRID, GRID, len(WORDS)), np.float32)
    codes = np.zeros((GRID, GRID, NUM_CODES), np.float32)
    codes[..., 4] = 2 * centres[None, :] - 1
    codes[..., 5] = 2 * centres[:, None] - 1
    codes[..., 4:6] += rng.normal(0, 2 * _PLACE_NOISE, (GRID, GRID, 2))
    for thing in things:
        box = on_padded_square(thing.bbox_xyxy, *size)
        across, down = (
            np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * GRID
            for low, high in ((box[0], box[2]), (box[1], box[3]))
        )
        share = np.outer(down, across) * rng.uniform(0.7, 1.0)
        shown = share > _LEAST_SHARE
        looks = np.zeros(len(WORDS), np.float32)
        looks[[WORDS.index(thing.kind), len(KINDS) + COLOURS.index(thing.variant)]] = 1
        words[shown] = share[shown][:, None] * looks
        off = rng.normal(0, 2 * _BOX_NOISE, (int(shown.sum()), 4))
        codes[shown, :4] = 2 * np.array(box) - 1 + off
        codes[shown, 6] = 1
    return Cells(words.reshape(-1, len(WORDS)), codes.reshape(-1, NUM_CODES))
