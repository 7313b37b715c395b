"""SAM 3 as a detector of the words of an image, with a mask for each box that stays."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pad_pipeline.geometry import geometry
from pad_pipeline.models.base import Runtime, in_batches
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.protocols import Boxes, Choose, Image, Mask, MaskedBoxes
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.models.sam.masks import MaskEncoder
from pad_pipeline.models.sam3.network import Features, Found, draw, encode_images, find
from pad_pipeline.models.sam3.words import WordEncoder

PIXEL_MEAN = PIXEL_STD = (0.5, 0.5, 0.5)
"""Of RGB in 0–1."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """An image with one of its words, and the queries whose scores pass."""

    image: int
    row: int
    """Where the image stands in the features."""
    word: str
    presence: float
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    """(N, 4), x0, y0, x1, y1 in 0–1 of the image."""
    queries_NC: Tensor
    encoded_SC: Tensor
    """What masks are made of, as are the queries; empty where none is wanted."""


class Sam3Detector:
    """A `Detector` and `MaskDetector`: every image is encoded once, every word once for all images.

    `model` is transformers' `Sam3Model` or `Sam3LiteTextModel` in evaluation mode on the runtime's
    device, its decoder and scores in float32 and the rest in the runtime's dtype. One pass of the
    network past the encoders holds at most `max_pairs` pairs of an image and a word. A box's score
    is that of its query times the presence of its word in the image, as in the original; a box
    stays if it is strictly above `box_threshold`. `threads` write the masks' run lengths while the
    model goes on, `stability` measures theirs (see `MaskEncoder`), which upsamples at most
    `max_pixels` mask pixels at once.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        runtime: Runtime,
        *,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] = PIXEL_STD,
        box_threshold: float = 0.5,
        max_pairs: int = 8,
        max_pixels: int = 2**25,
        threads: Executor | None = None,
        stability: bool = False,
    ) -> None:
        self.model, self.runtime = model, runtime
        self.size = int(model.config.image_size)
        self.words = WordEncoder(model, tokenizer, runtime.device)
        self.box_threshold, self.max_pairs, self.max_pixels = box_threshold, max_pairs, max_pixels
        self.threads, self.stability = threads, stability
        device = runtime.device
        self._mean = torch.tensor(pixel_mean, dtype=torch.float32, device=device)[:, None, None]
        self._std = torch.tensor(pixel_std, dtype=torch.float32, device=device)[:, None, None]

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The model's own: all images share a pass."""
        return self.size, self.size

    def detect(self, images: Sequence[Image], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        """The boxes of each image for its own tags, in their order, before suppression.

        An image without tags is skipped. Boxes may reach outside the image, as the model gives
        them. Raises `FloatingPointError` where the model's numbers overflow its dtype.
        """
        _, found = self._find(images, tags, for_masks=False)
        return [_boxes_of(pairs, image) for pairs, image in zip(found, images, strict=True)]

    @torch.inference_mode()
    def detect_masks(
        self, images: Sequence[Image], tags: Sequence[Sequence[str]], choose: Choose
    ) -> list[MaskedBoxes]:
        """The boxes of each image that `choose` keeps, with masks of the image's own size.

        No other masks are made. Raises as `detect`.
        """
        features, found = self._find(images, tags, for_masks=True)
        kept: list[Boxes] = []
        wanted: list[tuple[_Pair, int]] = []
        for index, (pairs, image) in enumerate(zip(found, images, strict=True)):
            boxes = _boxes_of(pairs, image)
            chosen = choose(index, boxes)
            kept.append(boxes.take(chosen))
            queries = [(pair, query) for pair in pairs for query in range(len(pair.scores))]
            wanted += [queries[box] for box in chosen]
        masks = iter(self._draw(images, features, wanted) if features and wanted else ())
        return [
            MaskedBoxes(
                boxes,
                tuple(itertools.islice(masks, len(boxes.labels))),
                {pair.word: pair.presence for pair in pairs},
            )
            for boxes, pairs in zip(kept, found, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> Features:
        """The features of images, in one pass of the encoder."""
        pixels = torch.stack([self.pixels(image) for image in images])
        return encode_images(self.model, pixels.to(self.runtime.torch_dtype))

    def pixels(self, image: Image) -> Tensor:
        """An image as the encoder reads it: resized to a square and normalised; float32."""
        resized = resize_uint8(image, self.size, self.size, "bilinear", self.runtime.device)
        return resized.float().div_(255).sub_(self._mean).div_(self._std)

    @torch.inference_mode()
    def _find(
        self, images: Sequence[Image], tags: Sequence[Sequence[str]], *, for_masks: bool
    ) -> tuple[Features | None, list[list[_Pair]]]:
        """The features of the images that have tags, and of each image a pair for every tag."""
        found: list[list[_Pair]] = [[] for _ in images]
        tagged = [index for index, own in enumerate(tags) if own]
        if not tagged:
            return None, found
        features = self.embed([images[index] for index in tagged])
        places = [(row, index, word) for row, index in enumerate(tagged) for word in tags[index]]
        for part in in_batches(places, self.max_pairs):
            rows = self._rows([row for row, _, _ in part])
            prompts = self.words.encode([word for _, _, word in part])
            for pair in self._select(find(self.model, features, rows, prompts), part, for_masks):
                found[pair.image].append(pair)
        return features, found

    def _select(
        self, found: Found, places: Sequence[tuple[int, int, str]], for_masks: bool
    ) -> Iterator[_Pair]:
        """What passes the threshold in each pair."""
        presence_R = found.presence_R.sigmoid()
        scores_RQ = found.logits_RQ.sigmoid() * presence_R[:, None]
        present_RQ = presence_R[:, None].expand_as(scores_RQ)
        table = torch.cat([found.boxes_RQ4, scores_RQ[..., None], present_RQ[..., None]], -1)
        table_RQ6 = table.cpu().numpy()  # here the pass is waited for
        if not np.isfinite(table_RQ6).all():
            raise FloatingPointError(
                f"the detector's numbers overflow {self.runtime.dtype}; use bfloat16 or float32"
            )
        for number, (row, image, word) in enumerate(places):
            passing = np.flatnonzero(table_RQ6[number, :, 4] > self.box_threshold)
            draws = for_masks and len(passing) > 0
            empty = found.queries_RQC.new_empty(0)
            yield _Pair(
                image=image,
                row=row,
                word=word,
                presence=float(table_RQ6[number, 0, 5]),
                scores=table_RQ6[number, passing, 4],
                boxes=table_RQ6[number, passing, :4],
                queries_NC=found.queries_RQC[number, self._rows(passing)] if draws else empty,
                # copied, as a view would hold all pairs of the pass in memory
                encoded_SC=found.encoded_RSC[number].clone() if draws else empty,
            )

    def _draw(
        self, images: Sequence[Image], features: Features, wanted: Sequence[tuple[_Pair, int]]
    ) -> list[Mask]:
        """The masks of some queries of some pairs, in the order in which they are asked for."""
        encoder = MaskEncoder(self.max_pixels, 0.0, self.threads, self.stability)
        queries: dict[_Pair, list[int]] = {}
        for pair, query in wanted:
            queries.setdefault(pair, []).append(query)
        for part in in_batches(list(queries), self.max_pairs):
            logits_RNHW = draw(
                self.model,
                features,
                self._rows([pair.row for pair in part]),
                self.words.encode([pair.word for pair in part]),
                torch.stack([pair.encoded_SC for pair in part]),
                pad_sequence(
                    [pair.queries_NC[self._rows(queries[pair])] for pair in part], batch_first=True
                ),
            )
            for pair, logits_NHW in zip(part, logits_RNHW, strict=True):
                height, width = images[pair.image].shape[:2]
                frame = geometry("squash", width, height, self.size)
                own_N1HW = logits_NHW[: len(queries[pair]), None]
                encoder.add_logits(own_N1HW, frame, padded=False)
            encoder.flush()
        drawn = [(pair, query) for pair, own in queries.items() for query in own]
        runs = dict(zip(drawn, encoder.results(), strict=True))
        stabilities = dict(zip(drawn, encoder.stabilities(), strict=self.stability))
        masks = []
        for place in wanted:
            height, width = images[place[0].image].shape[:2]
            counts, area = runs[place]
            masks.append(Mask(counts, height, width, area, 1.0, stabilities.get(place)))
        return masks

    def _rows(self, numbers: Sequence[int] | NDArray[np.integer]) -> Tensor:
        return upload(np.asarray(numbers, np.int64), torch.device(self.runtime.device))


def _boxes_of(pairs: Sequence[_Pair], image: Image) -> Boxes:
    """The boxes of an image's words, one word after another, in pixels."""
    if not pairs:
        return Boxes()
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height], np.float32)
    return Boxes(
        np.concatenate([pair.boxes for pair in pairs]) * scale,
        np.concatenate([pair.scores for pair in pairs]),
        tuple(pair.word for pair in pairs for _ in pair.scores),
        len(pairs),
    )
