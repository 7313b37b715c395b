"""Examples to one batch: image tokens expanded, sequences padded or packed, tags numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.examples import Example
from pad_pipeline.train.data.vision_input import VisionInput


def collate(
    examples: Sequence[Example],
    image: VisionInput,
    label_ids: Callable[[str], list[int]],
    *,
    packed: bool = False,
) -> Batch:
    """The examples as one batch; `label_ids` gives the token ids of a tag.

    Each has a row of its own, padded on the right; `packed` puts all in one row without padding.
    """
    rows = [_expand(example, example.image_tokens(image)) for example in examples]
    lengths = tuple(len(ids) for ids, _, _ in rows) if packed else ()
    if packed:
        rows = [_join(rows)]
    longest = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORE_INDEX)
    attention = torch.zeros(len(rows), longest, dtype=torch.bool)
    image_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, (ids, targets, is_image) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(ids)] = torch.tensor(targets)
        attention[row, : len(ids)] = True
        image_mask[row, : len(ids)] = torch.tensor(is_image)
    shown = [example for example in examples if example.frame is not None]
    frames = [frame for example in shown for frame in _frames(example)]
    coverage, region_mask, label_index, tags = _regions(shown, image.grid)
    return Batch(
        sample_ids=[example.id for example in examples],
        input_ids_BT=input_ids,
        labels_BT=labels,
        attention_BT=attention,
        image_mask_BT=image_mask,
        pixels_ICHW=image.normalise(frames),
        coverage_IRS=coverage,
        region_mask_IR=region_mask,
        label_index_IR=label_index,
        label_ids=[label_ids(tag) for tag in tags],
        tilings=tuple(each.tiles.tiling for each in shown if each.tiles is not None),
        image_ids=[each.id for each in shown],
        packed_lengths=lengths,
        problems=Counter(example.problem for example in examples if example.problem),
    )


_Row = tuple[list[int], list[int], list[bool]]
"""Ids, labels, and whether an image token stands there."""


def _join(rows: Sequence[_Row]) -> _Row:
    """One row behind another. Nothing predicts a sample's first token, so it has no label."""
    joined: _Row = ([], [], [])
    for ids, labels, is_image in rows:
        joined[0].extend(ids)
        joined[1].extend([IGNORE_INDEX, *labels[1:]])
        joined[2].extend(is_image)
    return joined


def _expand(example: Example, tokens: int) -> _Row:
    """Ids (0 for images), labels and whether an image token, once images take `tokens` places."""
    ids: list[int] = []
    labels: list[int] = []
    is_image: list[bool] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        here = token == IMAGE_TOKEN_INDEX
        number = tokens if here else 1
        ids += [0 if here else token] * number
        labels += [IGNORE_INDEX if here else label] * number
        is_image += [here] * number
    return ids, labels, is_image


def _frames(example: Example) -> list[NDArray[np.uint8]]:
    """The whole image, then its tiles."""
    assert example.frame is not None
    return [example.frame, *(example.tiles.frames if example.tiles is not None else ())]


def _regions(examples: Sequence[Example], grid: int) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """(coverage_IRS, region_mask_IR, label_index_IR, the distinct tags that it counts).

    The whole image has all its regions, a tile those that reach into it.
    """
    views = [
        (example, coverage_RS, number > 0)
        for example in examples
        for number, coverage_RS in enumerate(
            [example.coverage_RS, *(example.tiles.coverage_TRS if example.tiles else ())]
        )
    ]
    most = max((len(example.tags) for example in examples), default=0)
    coverage = torch.zeros(len(views), most, grid**2)
    region_mask = torch.zeros(len(views), most, dtype=torch.bool)
    label_index = torch.zeros(len(views), most, dtype=torch.long)
    known: dict[str, int] = {}
    for row, (example, coverage_RS, is_tile) in enumerate(views):
        for column, tag in enumerate(example.tags):
            label_index[row, column] = known.setdefault(tag, len(known))
        number = len(example.tags)
        coverage[row, :number] = torch.from_numpy(coverage_RS)
        region_mask[row, :number] = coverage[row, :number].any(-1) if is_tile else True
    return coverage, region_mask, label_index, list(known)
