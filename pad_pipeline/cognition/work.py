"""A shard of conversations: images read and encoded, questions drawn, answers written, in lines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.cognition.answers import longest_indices, write_indices, write_rgb
from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.cognition.counts import Counts
from pad_pipeline.cognition.draws import Draws
from pad_pipeline.cognition.entries import Entry, with_turns
from pad_pipeline.cognition.insertion import expand, insert_pairs
from pad_pipeline.cognition.regions import FrameRegion, tagged_regions
from pad_pipeline.cognition.sampling import grid_shape, sample_rgb
from pad_pipeline.cognition.templates import HIGH_LEVEL, LOW_LEVEL
from pad_pipeline.engine.guard import run_guarded
from pad_pipeline.errors import UserError, one_line
from pad_pipeline.geometry import ImageGeometry, geometry
from pad_pipeline.images import ImageLimits, decode_image
from pad_pipeline.models.vq.coder import ImageCoder
from pad_pipeline.records import RecordError
from pad_pipeline.sources import read_many


@dataclass(frozen=True)
class Asked:
    """An image in the frame, and the regions that its two questions are about."""

    entry: Entry
    frame: NDArray[np.uint8]
    high: FrameRegion
    low: FrameRegion
    is_tagged: bool


class Worker:
    """Makes the lines of shards with one VQ model."""

    def __init__(self, config: CognitionConfig, coder: ImageCoder) -> None:
        self._config, self._coder = config, coder
        self._regions = config.named_regions(coder.factor, coder.num_codes)
        self._limits = ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes)
        self._threads = ThreadPoolExecutor(config.threads or os.cpu_count() or 1, "pictures")

    def __call__(self, entries: Sequence[Entry]) -> tuple[bytes, Counts]:
        """The shard as JSON Lines, an entry a line in their order, and what became of them.

        Raises `UserError` where a store has not answered for as long as its retries last.
        """
        counts = Counts(num_entries=len(entries))
        lines: list[Any] = [entry.value for entry in entries]
        todo = [(n, entry) for n, entry in enumerate(entries) if entry.conversation is not None]
        for entry in entries:
            if entry.conversation is None:
                counts.leave(entry.sample_id, entry.problem, is_failed=entry.is_failed)
        files = read_many([entry.image for _, entry in todo if entry.image is not None])
        size = self._config.batch_size
        for start in range(0, len(todo), size):
            batch = list(zip(todo[start : start + size], files[start : start + size], strict=True))
            for ((number, entry), _), result in zip(batch, self._batch(batch), strict=True):
                if isinstance(result, str):
                    counts.leave(entry.sample_id, result, is_failed=True)
                else:
                    lines[number], is_tagged = result
                    counts.num_asked += 1
                    counts.num_tagged += is_tagged
        return b"".join(map(_line, lines)), counts

    def _batch(self, batch: Sequence[Any]) -> list[tuple[dict[str, Any], bool] | str]:
        """Of each entry with its file: the entry with questions, or why it has none."""
        asked = list(self._threads.map(lambda one: self._prepare(one[0][1], one[1]), batch))
        there = [one for one in asked if isinstance(one, Asked)]
        indices = iter(self._encode(there))
        return [one if isinstance(one, str) else self._write(one, next(indices)) for one in asked]

    def _prepare(self, entry: Entry, data: bytes | Exception) -> Asked | str:
        if isinstance(data, storage.RetriesExhausted):
            raise UserError(f"cannot read {entry.image and entry.image.uri}: {data}")
        if isinstance(data, Exception):
            return f"whose image cannot be read: {one_line(data)}"
        decode = partial(_decode, limits=self._limits)
        [pixels] = run_guarded(decode, [data], "decode")
        if isinstance(pixels, RecordError):
            return f"whose image cannot be read: {pixels.message}"
        height, width = pixels.shape[:2]
        if min(height, width) < self._coder.factor:
            return (
                f"whose image is smaller than a code, which covers {self._coder.factor} pixels a "
                f"side: {width}x{height}"
            )
        placed = geometry(self._config.geometry, width, height, self._config.size)
        draws = Draws(self._config.seed, entry.sample_id)
        tagged = self._tagged(entry, placed)
        regions = tagged or self._regions
        high = regions[draws.below(len(regions), "region of the indices")]
        low = regions[draws.below(len(regions), "region of the colours")]
        low = high if self._config.same_region else low
        return Asked(entry, placed.apply(pixels), high, low, bool(tagged))

    def _tagged(self, entry: Entry, placed: ImageGeometry) -> list[FrameRegion]:
        """The regions of the data set that an answer has room for."""
        tags = [box.tag for box in entry.boxes or ()]
        boxes = [box.xyxy for box in entry.boxes or ()]
        factor, num_codes = self._coder.factor, self._coder.num_codes
        return [
            region
            for region in tagged_regions(tags, boxes, placed, factor)
            if longest_indices(region.height * region.width // factor**2, num_codes)
            <= self._config.max_answer_tokens
        ]

    def _encode(self, asked: Sequence[Asked]) -> list[NDArray[np.int64] | RecordError]:
        """The indices of each region, in order; regions of one size share a pass."""
        by_size: dict[tuple[int, int], list[int]] = {}
        whole = self._config.region_codes == "grid"
        pictures = [one.frame if whole else one.frame[one.high.window] for one in asked]
        for number, picture in enumerate(pictures):
            by_size.setdefault(picture.shape[:2], []).append(number)
        found: list[Any] = [None] * len(asked)
        for numbers in by_size.values():
            chosen = [np.ascontiguousarray(pictures[number]) for number in numbers]
            for number, result in zip(
                numbers, run_guarded(self._coder.encode, chosen, "encode"), strict=True
            ):
                if whole and not isinstance(result, RecordError):
                    y, x = asked[number].high.window
                    f = self._coder.factor
                    result = result[y.start // f : y.stop // f, x.start // f : x.stop // f]
                found[number] = result
        return found

    def _write(
        self, asked: Asked, indices: NDArray[np.int64] | RecordError
    ) -> tuple[dict[str, Any], bool] | str:
        if isinstance(indices, RecordError):
            return f"whose image cannot be encoded: {indices.message}"
        config, entry = self._config, asked.entry
        draws = Draws(config.seed, entry.sample_id)
        high = HIGH_LEVEL[draws.below(len(HIGH_LEVEL), "question for indices")]
        low = LOW_LEVEL[draws.below(len(LOW_LEVEL), "question for colours")]
        shape = grid_shape(asked.low, config.rgb_grid)
        values = sample_rgb(asked.frame, asked.low, shape, config.rgb_sampling)
        pairs = [
            (expand(high, asked.high.words, config.size, indices.size), write_indices(indices)),
            (expand(low, asked.low.words, config.size), write_rgb(values)),
        ]
        assert entry.conversation is not None
        turns, numbers = insert_pairs(entry.conversation.turns, entry.places, pairs, draws)
        notes = [
            _note("high", numbers[0], asked.high, indices.shape),
            _note("low", numbers[1], asked.low, shape),
        ]
        return with_turns(entry, turns, notes), asked.is_tagged


def _note(level: str, turn: int, region: FrameRegion, grid: Sequence[int]) -> dict[str, Any]:
    """What a reader must know of a pair: turn, region in the frame, rows and columns."""
    box = [region.x0, region.y0, region.x1, region.y1]
    return {"level": level, "turn": turn, "region": region.words, "box": box, "grid": list(grid)}


def _decode(items: Sequence[bytes], limits: ImageLimits) -> list[NDArray[np.uint8]]:
    return [decode_image(data, limits) for data in items]


def _line(value: Any) -> bytes:
    """A line of JSON; halves of surrogate pairs, which UTF-8 cannot hold, stay escaped."""
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value) + "\n").encode()
