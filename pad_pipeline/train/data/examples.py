"""One sample read: its text as ids, its image in the model's frame, its masks as coverage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import masks, storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.sources import read_many
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.data.problems import Problem
from pad_pipeline.train.data.samples import TrainingSample
from pad_pipeline.train.data.views import Views, views_of
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.text.encode import (
    EncodedText,
    TextError,
    encode_caption,
    encode_conversation,
    encode_label,
)
from pad_pipeline.train.tiling import Tiling

_READ_ATTEMPTS = 3
_READ_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sample, ready to be collated. `frame` is HWC uint8 RGB, None for text alone.

    Of an image that is also shown in tiles, `frame` and `coverage_RS` are those of the whole.
    """

    id: str
    input_ids: list[int]
    labels: list[int]
    frame: NDArray[np.uint8] | None
    coverage_RS: NDArray[np.float32]
    tags: list[str]
    problem: Problem | None = None
    """That it is used in part only, or not at all."""
    reason: str = ""
    """What is wrong with this text, where the kind of problem does not say it."""
    tiles: Tiles | None = None

    def image_tokens(self, image: VisionInput) -> int:
        """Tokens that the LLM reads of the sample's image."""
        if self.tiles is None:
            return image.num_tokens
        return self.tiles.tiling.num_tokens(image.grid)

    def length(self, image: VisionInput) -> int:
        """Tokens of the sequence once the image's stand in it."""
        return expanded_length(self.input_ids, self.image_tokens(image))


@dataclass(frozen=True, slots=True)
class Tiles:
    """An image's tiles, row by row: T frames, HWC uint8 RGB, and which regions cover them."""

    tiling: Tiling
    frames: list[NDArray[np.uint8]]
    coverage_TRS: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSize:
    """What a sample adds to the work of a step."""

    tokens: int
    targets: int
    images: int
    """Frames that the vision tower takes."""
    regions: int


class ExampleReader:
    """Reads, decodes and encodes samples; safe to share between threads."""

    def __init__(self, tokenizer: Any, config: TrainConfig, image: VisionInput) -> None:
        """`tokenizer` is a transformers tokenizer."""
        self.tokenizer = tokenizer
        self.config = config
        self.image = image
        self.label_ids = lru_cache(maxsize=None)(lambda tag: encode_label(tokenizer, tag))

    def read(self, sample: TrainingSample) -> Example:
        """The sample read, decoded and encoded; `UserError` where its image cannot be used."""
        encoded, problem, reason = self._encode(sample)
        pixels, views = None, None
        if IMAGE_TOKEN_INDEX in encoded.input_ids and self.config.geometry == "anyres":
            pixels = self._read_image(sample)  # its size decides how many tokens it takes
            views = self._views(pixels)
        ids, labels, was_cut = self._fit(encoded, views)
        if was_cut and not problem:
            problem = _what_was_cut(encoded, ids, labels)
        frame, tiles = None, None
        coverage = np.zeros((0, self.image.grid**2), np.float32)
        tags: list[str] = []
        if IMAGE_TOKEN_INDEX in ids:
            pixels = self._read_image(sample) if pixels is None else pixels
            height, width = pixels.shape[:2]
            views = views or self._views(pixels)
            frame, *tile_frames = views.frames(pixels)
            known = [
                (t, m) for t, m in zip(sample.tags, sample.masks, strict=True) if self._has_ids(t)
            ]
            if len(known) < len(sample.tags):
                problem = problem or Problem.TAG
            tags = [tag for tag, _ in known]
            regions = [masks.decode(counts, height, width) for _, counts in known]
            coverage, *tile_coverage = views.coverage(regions)
            if views.tiling is not None:
                tiles = Tiles(views.tiling, tile_frames, np.stack(tile_coverage))
        return Example(
            id=sample.id,
            input_ids=ids,
            labels=labels,
            frame=frame,
            coverage_RS=coverage,
            tags=tags,
            problem=problem,
            reason=reason,
            tiles=tiles,
        )

    def size(self, sample: TrainingSample) -> SampleSize:
        """The size of the sample in training; its image is read only where it decides that."""
        encoded = self._encode(sample)[0]
        views = None
        if IMAGE_TOKEN_INDEX in encoded.input_ids and self.config.geometry == "anyres":
            views = self._views(self._read_image(sample))
        ids, labels, _ = self._fit(encoded, views)
        images = ids.count(IMAGE_TOKEN_INDEX)
        return SampleSize(
            tokens=expanded_length(ids, self._image_tokens(views)),
            targets=sum(label != IGNORE_INDEX for label in labels),
            images=images if views is None or views.tiling is None else views.tiling.num_views,
            regions=len(sample.tags) if images else 0,
        )

    def _encode(self, sample: TrainingSample) -> tuple[EncodedText, Problem | None, str]:
        """The text's ids; of a text that cannot be used an empty one, the problem and why."""
        has_image = sample.image is not None
        try:
            if sample.turns is None:
                caption = sample.caption or ""
                encoded = encode_caption(self.tokenizer, caption, has_image=has_image)
            else:
                encoded = encode_conversation(
                    self.tokenizer, sample.turns, self.config.template, has_image=has_image
                )
        except TextError as error:
            return self._empty_text(), Problem.UNUSABLE_TEXT, str(error)
        if encoded.num_images > 1:
            return self._empty_text(), Problem.UNUSABLE_TEXT, "more than one <image> for one image"
        if has_image and not encoded.num_images:
            return encoded, Problem.NOT_SHOWN, ""
        return encoded, None if encoded.num_targets else Problem.NO_ANSWER, ""

    def _empty_text(self) -> EncodedText:
        """A text without a supervised token."""
        return EncodedText([self.tokenizer.bos_token_id or 0], [IGNORE_INDEX])

    def _has_ids(self, tag: str) -> bool:
        """Whether the tag has token ids; a tagger may have given an empty one."""
        try:
            return bool(self.label_ids(tag))
        except TextError:
            return False

    def _views(self, pixels: NDArray[np.uint8]) -> Views:
        height, width = pixels.shape[:2]
        return views_of(self.config, self.image, width, height)

    def _image_tokens(self, views: Views | None) -> int:
        return self.image.num_tokens if views is None else views.num_tokens

    def _fit(self, encoded: EncodedText, views: Views | None) -> tuple[list[int], list[int], bool]:
        """Ids and labels that are at most `max_length` long once images are expanded."""
        length, image_tokens = 0, self._image_tokens(views)
        for position, token in enumerate(encoded.input_ids):
            length += image_tokens if token == IMAGE_TOKEN_INDEX else 1
            if length > self.config.max_length:
                return encoded.input_ids[:position], encoded.labels[:position], True
        return encoded.input_ids, encoded.labels, False

    def _read_image(self, sample: TrainingSample) -> NDArray[np.uint8]:
        assert sample.image is not None
        data = _retry(lambda: read_many([sample.image])[0])  # type: ignore[list-item]
        if isinstance(data, Exception):
            raise UserError(
                f"the image of {sample.id} cannot be read from {sample.image.uri} ({data}); "
                "restore it, or give the place of the images with ",
                Setting("images"),
            )
        try:
            pixels = decode_image(data)
        except ImageError as error:
            raise UserError(f"the image {sample.image.uri} cannot be decoded: {error}") from error
        if sample.tags and pixels.shape[:2] != (sample.height, sample.width):
            raise UserError(
                f"the image {sample.image.uri} has {pixels.shape[1]}x{pixels.shape[0]} pixels and "
                f"was annotated with {sample.width}x{sample.height}: it is not the same image"
            )
        return pixels


def expanded_length(ids: Sequence[int], num_tokens: int) -> int:
    """Tokens of a text where each image takes `num_tokens`."""
    return len(ids) + ids.count(IMAGE_TOKEN_INDEX) * (num_tokens - 1)


def _what_was_cut(encoded: EncodedText, ids: list[int], labels: list[int]) -> Problem:
    """What a text lost at its end: its image, all that is learnt from, or a part of that."""
    if encoded.num_images and IMAGE_TOKEN_INDEX not in ids:
        return Problem.IMAGE_CUT
    if encoded.num_targets and all(label == IGNORE_INDEX for label in labels):
        return Problem.ANSWER_CUT
    return Problem.CUT


def _retry(read: Callable[[], bytes | Exception]) -> bytes | Exception:
    """What `read` gives; tried again after a pause where it failed, as networks do."""
    for attempt in range(_READ_ATTEMPTS):
        data = read()
        if not isinstance(data, Exception) or isinstance(
            data, (FileNotFoundError, storage.RetriesExhausted)
        ):
            break
        if attempt < _READ_ATTEMPTS - 1:
            time.sleep(_READ_PAUSE_S * 2**attempt)
    return data
