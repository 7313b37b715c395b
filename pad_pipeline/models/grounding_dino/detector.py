"""Grounding DINO and MM-Grounding-DINO as a detector: the boxes of an image's own tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.models.base import Runtime, in_batches
from pad_pipeline.models.grounding_dino.encode import encode_images, encode_texts
from pad_pipeline.models.grounding_dino.forward import compiled_steps, detect_pairs
from pad_pipeline.models.grounding_dino.prompts import (
    LabelMode,
    Prompt,
    build_prompts,
    phrase_of,
    span_weights,
)
from pad_pipeline.models.protocols import Boxes, Image
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the detector's input; sides in pixels, mean and std of RGB in 0–1."""

    shortest_side: int = 800
    longest_side: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def resized_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """The (height, width) of an image as the detector's input, by the original's rounding.

    The shortest side becomes `shortest`, or less where the longest would pass `longest`. So thin an
    image that the original fails on it (its short side would round to 0) gets 1 pixel there and at
    most `longest` on the other side.
    """
    low, high = min(height, width), max(height, width)
    size = shortest
    if high / low * shortest > longest:
        size = round(longest * low / high)
    if size == low:
        return height, width
    other = int(size * high / low) if size else min(high // low, longest)
    size = max(size, 1)
    return (size, other) if height <= width else (other, size)


@dataclass(frozen=True, slots=True)
class _Job:
    """An image that has tags, its size after resizing and its prompts."""

    index: int
    size: tuple[int, int]
    prompts: list[Prompt]


class GroundingDinoDetector:
    """A `Detector`: runs every image with the prompts that its own tags make.

    `model` is transformers' `GroundingDinoForObjectDetection` (or `MMGroundingDino…`) in evaluation
    mode on the runtime's device, its box heads in float32 and the rest in the runtime's dtype. One
    pass of the model holds at most `max_pairs` pairs of an image and a prompt, as an image with
    many tags has several prompts.
    Only images of the same size after resizing share a pass, so that what is found in an image does
    not depend on its neighbours; with `mix_sizes` images of similar sizes share one, padded at the
    right and bottom, which is faster where sizes vary and moves boxes and scores a little.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        runtime: Runtime,
        *,
        preprocessing: Preprocessing | None = None,
        box_threshold: float = 0.25,
        text_threshold: float = 0.20,
        label_mode: LabelMode = "span",
        max_pairs: int = 8,
        mix_sizes: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.preprocessing = preprocessing or Preprocessing()
        self.box_threshold, self.text_threshold = box_threshold, text_threshold
        self.label_mode: LabelMode = label_mode
        self.max_pairs, self.mix_sizes = max_pairs, mix_sizes
        self.max_tokens = int(model.config.max_text_len)
        device = runtime.device
        self._mean = torch.tensor(self.preprocessing.mean, device=device)[:, None, None]
        self._std = torch.tensor(self.preprocessing.std, device=device)[:, None, None]
        # Swin is left as it is: it branches on sizes and would be compiled anew for most images
        self._steps = compiled_steps() if runtime.compile else None

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        """The boxes of each image for its own tags, before suppression, in the model's order.

        A box stays if its score is strictly above `box_threshold`; the score is that of its best
        tag (see `prompts.span_weights`), or with `label_mode="phrase"` the best of all tokens.
        Boxes may reach outside the image, as the model gives them. An image without tags is
        skipped. Raises `PromptError` for a tag too long for any prompt, before anything is run,
        and `FloatingPointError` where the model's numbers overflow its dtype.
        """
        prompts = [
            build_prompts(
                names, self.tokenizer, label_mode=self.label_mode, max_tokens=self.max_tokens
            )
            for names in tags
        ]
        jobs = [
            _Job(index, self.input_size(*image.shape[:2]), wanted)
            for index, (image, wanted) in enumerate(zip(images, prompts, strict=True))
            if wanted
        ]
        found = [Boxes() for _ in images]
        for batch in _batches(jobs, self.max_pairs, self.mix_sizes):
            pieces: dict[int, list[Boxes]] = {job.index: [] for job in batch}
            for index, boxes in self._run(batch, [images[job.index] for job in batch]):
                pieces[index].append(boxes)
            for job in batch:
                found[job.index] = _merge(pieces[job.index])
        return found

    def pixels(
        self, images: Sequence[Image], sizes: Sequence[tuple[int, int]] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Images as the model reads them, (B, 3, H, W) in its dtype, and where they are padding.

        `sizes` are the (height, width) after resizing. Padding is (B, H, W), True at the right and
        bottom of what is smaller than the largest, and None where there is none.
        """
        sizes = sizes or [self.input_size(*image.shape[:2]) for image in images]
        device = self.runtime.device
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        batch = torch.zeros((len(sizes), 3, height, width), device=device)
        padding = torch.ones((len(sizes), height, width), dtype=torch.bool, device=device)
        for row, (image, (rows, columns)) in enumerate(zip(images, sizes, strict=True)):
            resized = resize_uint8(image, rows, columns, "bilinear", device)
            batch[row, :, :rows, :columns] = (resized.float() / 255 - self._mean) / self._std
            padding[row, :rows, :columns] = False
        alike = len(set(sizes)) == 1
        return batch.to(self.runtime.torch_dtype), None if alike else padding

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image has after resizing; equal ones can share a pass."""
        settings = self.preprocessing
        return resized_size(height, width, settings.shortest_side, settings.longest_side)

    def _run(self, batch: Sequence[_Job], images: Sequence[Image]) -> Iterator[tuple[int, Boxes]]:
        """The boxes of each prompt of each image, with the image's index, in order."""
        pixels, padding = self.pixels(images, [job.size for job in batch])
        encoded = encode_images(self.model, pixels, padding)
        rows = [(place, prompt) for place, job in enumerate(batch) for prompt in job.prompts]
        for part in in_batches(rows, self.max_pairs):
            unlike = list(dict.fromkeys(prompt for _, prompt in part))
            ids, blank = pad_token_ids([prompt.token_ids for prompt in unlike])
            device = self.runtime.device
            texts = encode_texts(
                self.model, ids.to(device), None if blank is None else blank.to(device)
            )
            places = torch.tensor([place for place, _ in part], device=device)
            chosen = torch.tensor([unlike.index(prompt) for _, prompt in part], device=device)
            logits, boxes = detect_pairs(
                self.model, encoded.rows(places), texts.rows(chosen), steps=self._steps
            )
            selected = self.select([prompt for _, prompt in part], logits, boxes)
            for (place, _), (kept, scores, labels) in zip(part, selected, strict=True):
                height, width = images[place].shape[:2]
                xyxy = to_pixels(kept, height, width)
                yield batch[place].index, Boxes(xyxy, scores, labels, 1)

    def select(
        self, prompts: Sequence[Prompt], logits: Tensor, boxes: Tensor
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32], tuple[str, ...]]]:
        """What passes the box threshold in each row: boxes (N, 4), scores (N,) and labels.

        `logits` are RQT and `boxes` RQ4, centre x, y, width and height in 0–1, which they stay.
        """
        scores, hits = self._score(prompts, logits)
        selected = []
        for row, (prompt, boxes_cxcywh) in enumerate(
            zip(prompts, boxes.cpu().numpy(), strict=True)
        ):
            kept = np.flatnonzero(scores[row] > self.box_threshold)
            labels = tuple(self._label(prompt, hits[row, query]) for query in kept)
            selected.append((boxes_cxcywh[kept], scores[row, kept], labels))
        return selected

    def _score(
        self, prompts: Sequence[Prompt], logits: Tensor
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Scores RQ of the logits RQT, and what the labels follow from: best tag RQ, or tokens RQT.

        The tokens are those above the text threshold.
        """
        probabilities = logits.sigmoid()
        if self.label_mode == "span":
            most = max(len(prompt.tags) for prompt in prompts)
            weights = np.zeros((len(prompts), most, logits.shape[-1]), np.float32)
            for row, prompt in enumerate(prompts):
                weights[row, : len(prompt.tags)] = span_weights(prompt, logits.shape[-1])
            of_tags = probabilities @ torch.from_numpy(weights).to(logits.device).transpose(1, 2)
            scores, hits = of_tags.max(-1)
        else:
            scores, hits = probabilities.amax(-1), probabilities > self.text_threshold
        if not torch.isfinite(scores).all():
            raise FloatingPointError(
                f"the detector's scores overflow {self.runtime.dtype}; use bfloat16 or float32"
            )
        return scores.cpu().numpy(), hits.cpu().numpy()

    def _label(self, prompt: Prompt, hit: Any) -> str:
        if self.label_mode == "span":
            return prompt.tags[int(hit)]
        return phrase_of(hit, prompt, self.tokenizer)


def pad_token_ids(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """(R, T) token ids padded with 0 at the end, and where they are padding (None: nowhere)."""
    lengths = [len(row) for row in ids]
    padded = torch.zeros((len(ids), max(lengths)), dtype=torch.int64)
    for row, tokens in zip(padded, ids, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    if min(lengths) == max(lengths):
        return padded, None
    return padded, torch.arange(max(lengths))[None] >= torch.tensor(lengths)[:, None]


def to_pixels(boxes_cxcywh: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(N, 4) centre x, centre y, width, height in 0–1 -> (N, 4) float32 xyxy in pixels.

    In the original script's order of operations, so that the last bit is the same.
    """
    boxes = boxes_cxcywh * np.array([width, height, width, height], np.float32)
    boxes[:, :2] -= boxes[:, 2:] / 2
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _batches(jobs: Sequence[_Job], max_pairs: int, mix_sizes: bool) -> Iterator[list[_Job]]:
    """The jobs by size, in batches of at most `max_pairs` prompts but for images that need more."""
    batch: list[_Job] = []
    for job in sorted(jobs, key=lambda job: (job.size, job.index)):
        num_rows = sum(len(held.prompts) for held in batch) + len(job.prompts)
        alike = mix_sizes or not batch or batch[0].size == job.size
        if batch and (num_rows > max_pairs or not alike):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _merge(pieces: Sequence[Boxes]) -> Boxes:
    """The boxes of an image's prompts, one after another."""
    return Boxes(
        np.concatenate([piece.xyxy for piece in pieces]),
        np.concatenate([piece.scores for piece in pieces]),
        tuple(label for piece in pieces for label in piece.labels),
        len(pieces),
    )
