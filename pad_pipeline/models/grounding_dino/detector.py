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
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import compiled_steps, detect_pairs
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.prepare import prepare_network
from pad_pipeline.models.grounding_dino.preprocessing import (
    PadTo,
    Preprocessing,
    Size,
    canvas_of,
    resized_size,
)
from pad_pipeline.models.grounding_dino.prompts import (
    LabelMode,
    Prompt,
    build_prompts,
    phrase_of,
    span_weights,
)
from pad_pipeline.models.protocols import Boxes, Image
from pad_pipeline.models.resize import resize_uint8


@dataclass(frozen=True, slots=True)
class _Job:
    """An image that has tags, its size after resizing and after padding, and its prompts."""

    index: int
    size: Size
    canvas: Size
    prompts: list[Prompt]


class GroundingDinoDetector:
    """A `Detector`: runs every image with the prompts that its own tags make.

    `model` is transformers' `GroundingDinoForObjectDetection` (or `MMGroundingDino…`) in evaluation
    mode on the runtime's device, its box heads in float32 and the rest in the runtime's dtype. One
    pass of the model holds at most `max_pairs` pairs of an image and a prompt, as an image with
    many tags has several prompts.
    Only images of one `input_size` share a pass, so that what is found in an image does not depend
    on its neighbours. With `pad_to="own"` that is its size after resizing. With "canvases" images
    are padded at the right and bottom to one of a dozen sizes, and the padding is masked as the
    original does in a batch: passes are fuller where sizes vary, and boxes and scores are a little
    different, since the windows of the backbone and its norms see the padding.
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
        pad_to: PadTo = "own",
    ) -> None:
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.network = prepare_network(model)
        self.preprocessing = preprocessing or Preprocessing()
        self.box_threshold, self.text_threshold = box_threshold, text_threshold
        self.label_mode: LabelMode = label_mode
        self.max_pairs = max_pairs
        self.pad_to: PadTo = pad_to
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
            _Job(index, self._size(image), self.input_size(*image.shape[:2]), wanted)
            for index, (image, wanted) in enumerate(zip(images, prompts, strict=True))
            if wanted
        ]
        found = [Boxes() for _ in images]
        for batch in _batches(jobs, self.max_pairs):
            pieces: dict[int, list[Boxes]] = {job.index: [] for job in batch}
            for index, boxes in self._run(batch, [images[job.index] for job in batch]):
                pieces[index].append(boxes)
            for job in batch:
                found[job.index] = _merge(pieces[job.index])
        return found

    def pixels(self, images: Sequence[Image]) -> Tensor:
        """Images of one `input_size` as the model reads them, (B, 3, H, W) in its dtype.

        What is smaller is padded with 0 at the right and bottom.
        """
        [(height, width)] = {self.input_size(*image.shape[:2]) for image in images}
        device = self._mean.device
        resized = [resize_uint8(image, *self._size(image), "bilinear", device) for image in images]
        if all(pixels.shape[1:] == (height, width) for pixels in resized):
            return self._normalise(torch.stack(resized)).to(self.runtime.torch_dtype)
        batch = torch.zeros(
            (len(images), 3, height, width), dtype=self.runtime.torch_dtype, device=device
        )
        for canvas, pixels in zip(batch, resized, strict=True):
            canvas[:, : pixels.shape[1], : pixels.shape[2]] = self._normalise(pixels)
        return batch

    def _normalise(self, pixels: Tensor) -> Tensor:
        return pixels.float().div_(255).sub_(self._mean).div_(self._std)

    def input_size(self, height: int, width: int) -> Size:
        """The (height, width) that an image has for the model; equal ones can share a pass."""
        settings = self.preprocessing
        size = resized_size(height, width, settings.shortest_side, settings.longest_side)
        return size if self.pad_to == "own" else canvas_of(size, settings)

    def _size(self, image: Image) -> Size:
        """The (height, width) of an image after resizing, without padding."""
        settings, (height, width) = self.preprocessing, image.shape[:2]
        return resized_size(height, width, settings.shortest_side, settings.longest_side)

    def _run(self, batch: Sequence[_Job], images: Sequence[Image]) -> Iterator[tuple[int, Boxes]]:
        """The boxes of each prompt of each image, with the image's index, in order."""
        pixels = self.pixels(images)
        padded = any(job.size != job.canvas for job in batch)
        sizes = [job.size for job in batch] if padded else None
        encoded = encode_images(self.network, pixels, sizes)
        rows = [(place, prompt) for place, job in enumerate(batch) for prompt in job.prompts]
        for part in in_batches(rows, self.max_pairs):
            prompts = [prompt for _, prompt in part]
            texts = encode_texts(self.network, [prompt.token_ids for prompt in prompts])
            places = [place for place, _ in part]
            if places == list(range(len(batch))):
                pairs = encoded
            else:
                pairs = encoded.rows(upload(np.array(places), pixels.device))
            logits, boxes = detect_pairs(self.network, pairs, texts, steps=self._steps)
            selected = self.select(prompts, logits, boxes)
            for place, (kept, scores, labels) in zip(places, selected, strict=True):
                height, width = images[place].shape[:2]
                xyxy = to_pixels(kept, height, width)
                yield batch[place].index, Boxes(xyxy, scores, labels, 1)

    def select(
        self, prompts: Sequence[Prompt], logits: Tensor, boxes: Tensor
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32], tuple[str, ...]]]:
        """What passes the box threshold in each row: boxes (N, 4), scores (N,) and labels.

        `logits` are RQT and `boxes` RQ4, centre x, y, width and height in 0–1, which they stay.
        """
        found_RQN = self.score(prompts, logits, boxes).cpu().numpy()  # here the pass is waited for
        scores_RQ = found_RQN[..., 4]
        if not np.isfinite(scores_RQ).all():
            raise FloatingPointError(
                f"the detector's scores overflow {self.runtime.dtype}; use bfloat16 or float32"
            )
        selected = []
        for prompt, row, passes in zip(
            prompts, found_RQN, scores_RQ > self.box_threshold, strict=True
        ):
            kept = row[passes]
            selected.append((kept[:, :4], kept[:, 4], self._labels(prompt, kept[:, 5:])))
        return selected

    def score(self, prompts: Sequence[Prompt], logits: Tensor, boxes: Tensor) -> Tensor:
        """Boxes, scores, and what labels follow from, as one tensor (R, Q, 5 + N) on the device.

        That is the number of the best tag, or with `label_mode="phrase"` for every token whether
        it is above the text threshold.
        """
        probabilities = logits.sigmoid()
        if self.label_mode == "phrase":
            hits = probabilities > self.text_threshold
            return torch.cat([boxes, probabilities.amax(-1, keepdim=True), hits], -1)
        weights = upload(_span_weights(prompts, logits.shape[-1]), logits.device)
        scores, hits = (probabilities @ weights.transpose(1, 2)).max(-1, keepdim=True)
        return torch.cat([boxes, scores, hits], -1)

    def _labels(self, prompt: Prompt, hits: NDArray[np.float32]) -> tuple[str, ...]:
        """Of each box: its best tag, or the phrase of all tokens above the text threshold."""
        if self.label_mode == "span":
            tags = np.array(prompt.tags, object)
            return tuple(tags[hits[:, 0].astype(np.intp)])
        return tuple(phrase_of(hit > 0, prompt, self.tokenizer) for hit in hits)


def _span_weights(prompts: Sequence[Prompt], num_tokens: int) -> NDArray[np.float32]:
    """(R, tags, tokens) `span_weights` of each prompt, 0 where it has fewer tags than another."""
    most = max(len(prompt.tags) for prompt in prompts)
    weights = np.zeros((len(prompts), most, num_tokens), np.float32)
    for row, prompt in zip(weights, prompts, strict=True):
        row[: len(prompt.tags)] = span_weights(prompt, num_tokens)
    return weights


def to_pixels(boxes_cxcywh: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(N, 4) centre x, centre y, width, height in 0–1 -> (N, 4) float32 xyxy in pixels.

    In the original script's order of operations, so that the last bit is the same.
    """
    boxes = boxes_cxcywh * np.array([width, height, width, height], np.float32)
    boxes[:, :2] -= boxes[:, 2:] / 2
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _batches(jobs: Sequence[_Job], max_pairs: int) -> Iterator[list[_Job]]:
    """The jobs by canvas, in batches of at most `max_pairs` prompts, or of one image."""
    batch: list[_Job] = []
    for job in sorted(jobs, key=lambda job: (job.canvas, job.index)):
        num_rows = sum(len(held.prompts) for held in batch) + len(job.prompts)
        if batch and (num_rows > max_pairs or batch[0].canvas != job.canvas):
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
