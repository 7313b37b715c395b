"""Samples to micro-batches: text to ids, images through their geometry, masks to patch coverage.

Reading, decoding and collating run in threads ahead of the training step.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline import masks, storage
from pad_pipeline.errors import UserError
from pad_pipeline.geometry import coverage_float32, geometry
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD
from pad_pipeline.sources import read_many
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.samples import Sample, Samples
from pad_pipeline.train.data.steps import Plan
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.text.encode import (
    IGNORE,
    IMAGE_TOKEN,
    EncodedText,
    TextError,
    encode_caption,
    encode_conversation,
    encode_label,
)

_READ_ATTEMPTS = 3
_READ_PAUSE_S = 1.0
_STEPS_AHEAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """What the vision tower takes: square images of `size` pixels in `grid` × `grid` patches."""

    size: int
    grid: int
    num_tokens: int
    """Tokens per image behind the projector."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sample, ready to be collated. `frame` is HWC uint8 RGB, None for text alone."""

    id: str
    input_ids: list[int]
    labels: list[int]
    frame: NDArray[np.uint8] | None
    coverage_RS: NDArray[np.float32]
    tags: list[str]
    problem: str | None = None
    """Why nothing, or less than there was, is learnt from the text."""


class Loader:
    """Makes micro-batches of samples."""

    def __init__(
        self, samples: Samples, tokenizer: Any, config: TrainConfig, image: ImageFormat
    ) -> None:
        """`tokenizer` is a transformers tokenizer."""
        self.samples = samples
        self.config = config
        self.image = image
        self.tokenizer = tokenizer
        self.label_ids = lru_cache(maxsize=None)(lambda tag: encode_label(tokenizer, tag))
        self.problems: Counter[str] = Counter()
        """How many samples were used with less text than they have, by reason."""

    def load(self, index: int) -> Example:
        """One sample read, decoded and encoded; `UserError` where its image cannot be used."""
        sample = self.samples[index]
        encoded, problem = self._encode(sample)
        frame = None
        coverage = np.zeros((0, self.image.grid**2), np.float32)
        tags: list[str] = []
        if encoded.num_images:
            pixels = self._read(sample)
            height, width = pixels.shape[:2]
            place = geometry(self.config.geometry, width, height, self.image.size)
            frame = place.apply(pixels)
            known = [
                (t, m) for t, m in zip(sample.tags, sample.masks, strict=True) if self._knows(t)
            ]
            if len(known) < len(sample.tags):
                problem = "a tag that the tokenizer cannot write"
            if known:
                tags = [tag for tag, _ in known]
                regions = [masks.decode(counts, height, width) for _, counts in known]
                coverage = coverage_float32(place.coverage_many(regions, self.image.grid))
        ids, labels, was_cut = self._fit(encoded)
        if was_cut:
            problem = f"text longer than --max-length {self.config.max_length}"
        return Example(
            id=sample.id,
            input_ids=ids,
            labels=labels,
            frame=frame,
            coverage_RS=coverage,
            tags=tags,
            problem=problem,
        )

    def collate(self, examples: Sequence[Example]) -> Batch:
        """The examples as one batch, padded at the end of each sequence."""
        tokens = self.image.num_tokens
        rows = [_expand(example, tokens) for example in examples]
        longest = max(len(ids) for ids, _, _ in rows)
        input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
        labels = torch.full((len(rows), longest), IGNORE)
        attention = torch.zeros(len(rows), longest, dtype=torch.bool)
        image_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, (ids, targets, is_image) in enumerate(rows):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            labels[row, : len(ids)] = torch.tensor(targets)
            attention[row, : len(ids)] = True
            image_mask[row, : len(ids)] = torch.tensor(is_image)
        shown = [row for row, example in enumerate(examples) if example.frame is not None]
        frames = [examples[row].frame for row in shown]
        coverage, region_mask, label_index, label_ids = self._regions([examples[r] for r in shown])
        return Batch(
            sample_ids=[example.id for example in examples],
            input_ids_BT=input_ids,
            labels_BT=labels,
            attention_BT=attention,
            image_mask_BT=image_mask,
            pixels_ICHW=self.normalise([frame for frame in frames if frame is not None]),
            image_index=torch.tensor(shown, dtype=torch.long),
            coverage_IRS=coverage,
            region_mask_IR=region_mask,
            label_index_IR=label_index,
            label_ids=label_ids,
        )

    def normalise(self, frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(I, 3, size, size) float32: what the tower takes of HWC uint8 frames."""
        size = self.image.size
        if not frames:
            return torch.zeros(0, 3, size, size)
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.image.mean, self.image.std))
        return ((pixels - mean) / std).contiguous()

    def micro_batches(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Batch]:
        """The samples as batches of at most `micro_batch`."""
        return self._collate_all([self.load(int(index)) for index in indices])

    def steps(
        self, plan: Plan, first_step: int, worker: int, num_workers: int
    ) -> Iterator[tuple[int, list[Batch], float]]:
        """(step, one worker's micro-batches, seconds waited for them) from `first_step` on."""
        readers = ThreadPoolExecutor(self.config.loader_threads)
        collator = ThreadPoolExecutor(1)
        queue: list[tuple[int, Future[list[Batch]]]] = []
        coming = iter(range(first_step, plan.num_steps))

        def submit() -> None:
            step = next(coming, None)
            if step is not None:
                indices = plan.share(step, worker, num_workers)
                examples = [readers.submit(self.load, int(index)) for index in indices]
                queue.append((step, collator.submit(self._collate_loaded, examples)))

        try:
            for _ in range(_STEPS_AHEAD):
                submit()
            while queue:
                step, batches = queue.pop(0)
                submit()
                began = time.perf_counter()
                yield step, batches.result(), time.perf_counter() - began
        finally:
            readers.shutdown(cancel_futures=True)
            collator.shutdown(cancel_futures=True)

    def _collate_loaded(self, examples: Sequence[Future[Example]]) -> list[Batch]:
        return self._collate_all([example.result() for example in examples])

    def _collate_all(self, examples: Sequence[Example]) -> list[Batch]:
        self.problems.update(example.problem for example in examples if example.problem)
        size = self.config.micro_batch
        return [
            self.collate(examples[start : start + size]) for start in range(0, len(examples), size)
        ]

    def _encode(self, sample: Sample) -> tuple[EncodedText, str | None]:
        """The text's ids; a text that cannot be used teaches nothing, and says why."""
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
            return self._nothing(), f"unusable text: {error}"
        if encoded.num_images > 1:
            return self._nothing(), "unusable text: more than one <image> for one image"
        if has_image and not encoded.num_images:
            return encoded, "no <image> in the text, so the image is not shown"
        return encoded, None if encoded.num_targets else "no answer to learn from"

    def _nothing(self) -> EncodedText:
        """A text from which nothing is learnt."""
        return EncodedText([self.tokenizer.bos_token_id or 0], [IGNORE])

    def _knows(self, tag: str) -> bool:
        """Whether the tag has token ids; a model may have invented an empty one."""
        try:
            return bool(self.label_ids(tag))
        except TextError:
            return False

    def _fit(self, encoded: EncodedText) -> tuple[list[int], list[int], bool]:
        """Ids and labels that are at most `max_length` long once images are expanded."""
        length = 0
        for position, token in enumerate(encoded.input_ids):
            length += self.image.num_tokens if token == IMAGE_TOKEN else 1
            if length > self.config.max_length:
                return encoded.input_ids[:position], encoded.labels[:position], True
        return encoded.input_ids, encoded.labels, False

    def _read(self, sample: Sample) -> NDArray[np.uint8]:
        assert sample.image is not None
        data = _retry(lambda: read_many([sample.image])[0])  # type: ignore[list-item]
        if isinstance(data, Exception):
            raise UserError(
                f"the image of {sample.id} cannot be read from {sample.image.uri} ({data}); say "
                "with --images where the images are, or restore it"
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

    def _regions(
        self, examples: Sequence[Example]
    ) -> tuple[Tensor, Tensor, Tensor, list[list[int]]]:
        most = max((len(example.tags) for example in examples), default=0)
        coverage = torch.zeros(len(examples), most, self.image.grid**2)
        region_mask = torch.zeros(len(examples), most, dtype=torch.bool)
        label_index = torch.zeros(len(examples), most, dtype=torch.long)
        known: dict[str, int] = {}
        for row, example in enumerate(examples):
            for column, tag in enumerate(example.tags):
                label_index[row, column] = known.setdefault(tag, len(known))
            number = len(example.tags)
            coverage[row, :number] = torch.from_numpy(example.coverage_RS)
            region_mask[row, :number] = True
        return coverage, region_mask, label_index, [self.label_ids(tag) for tag in known]


def _expand(example: Example, tokens: int) -> tuple[list[int], list[int], list[bool]]:
    """Ids (0 for images), labels and whether an image token, once images take `tokens` places."""
    ids: list[int] = []
    labels: list[int] = []
    is_image: list[bool] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        here = token == IMAGE_TOKEN
        number = tokens if here else 1
        ids += [0 if here else token] * number
        labels += [IGNORE if here else label] * number
        is_image += [here] * number
    return ids, labels, is_image


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
