"""Segment Anything (SAM, MobileSAM, SAM-HQ, SAM 2 and 3) on transformers' models: one mask per box.

Legend of the shape suffixes: B images, N boxes (of several images), C channels, H and W rows and
columns, M masks per box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.geometry import ImageGeometry, geometry
from pad_pipeline.models.base import Runtime, in_batches
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.protocols import Image, Mask
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.models.sam.masks import MaskEncoder, upsample

Features = tuple[Tensor, ...]
"""What the image encoder gives, float32, one row per image: the embedding BCHW first."""

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Of RGB on the 0–255 scale; the original code's constants."""

HALF = (127.5, 127.5, 127.5)
"""Mean and deviation of SAM 3."""


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the segmenters.

    `fit` says how an image fills the model's square input: "longest-side" keeps the proportions
    and pads right and bottom with zeros, "squash" does not. `embed` maps normalised pixels B3HW to
    features; `decode` maps features of N boxes and the boxes N4 (pixels of the model's input) to
    logits NMHW and predicted IoU NM. `mean` and `std` are those of a model whose processor does not
    say them.
    """

    fit: Literal["longest-side", "squash"]
    embed: Callable[[Any, Tensor], Features]
    decode: Callable[[Any, Features, Tensor, bool], tuple[Tensor, Tensor]]
    mean: tuple[float, float, float] = PIXEL_MEAN
    std: tuple[float, float, float] = PIXEL_STD


def _embed_sam(model: Any, pixels_B3HW: Tensor) -> Features:
    return (model.vision_encoder(pixels_B3HW).last_hidden_state.float(),)


def _embed_sam_hq(model: Any, pixels_B3HW: Tensor) -> Features:
    output = model.vision_encoder(pixels_B3HW)
    embedding, early = output.last_hidden_state, output.intermediate_embeddings[0]
    return embedding.float(), early.float()


def _embed_sam2(model: Any, pixels_B3HW: Tensor) -> Features:
    # SAM 3 has a coarser level more, for its detector.
    fine, middle, coarse = (
        level.float() for level in model.vision_encoder(pixels_B3HW).fpn_hidden_states[:3]
    )
    coarse = coarse + model.no_memory_embedding.reshape(1, -1, 1, 1)
    return coarse, model.mask_decoder.conv_s0(fine), model.mask_decoder.conv_s1(middle)


def _decode_sam_hq(
    model: Any, features: Features, boxes_N4: Tensor, multimask: bool
) -> tuple[Tensor, Tensor]:
    extra = {"intermediate_embeddings": [features[1]], "hq_token_only": False}
    return _decode(model, features, boxes_N4, multimask, **extra)


def _decode_sam2(
    model: Any, features: Features, boxes_N4: Tensor, multimask: bool
) -> tuple[Tensor, Tensor]:
    extra = {"high_resolution_features": list(features[1:])}
    return _decode(model, features, boxes_N4, multimask, **extra)


def _decode(
    model: Any, features: Features, boxes_N4: Tensor, multimask: bool, **extra: Any
) -> tuple[Tensor, Tensor]:
    """One box per row of the batch, so that boxes of different images share a pass, unpadded."""
    sparse, dense = model.prompt_encoder(
        input_points=None, input_labels=None, input_boxes=boxes_N4[:, None], input_masks=None
    )
    positions = model.get_image_wide_positional_embeddings()
    masks, predicted_iou = model.mask_decoder(
        image_embeddings=features[0],
        image_positional_embeddings=positions.expand(len(boxes_N4), -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        **extra,
    )[:2]
    return masks[:, 0], predicted_iou[:, 0]


FAMILIES = {
    "sam": Family("longest-side", _embed_sam, _decode),
    "mobile_sam": Family("longest-side", _embed_sam, _decode),
    "sam_hq": Family("longest-side", _embed_sam_hq, _decode_sam_hq),
    "sam2": Family("squash", _embed_sam2, _decode_sam2),
    "sam3_tracker": Family("squash", _embed_sam2, _decode_sam2, HALF, HALF),
}
"""By `model_type` of the model's own configuration class."""


def family_of(model: Any) -> Family:
    """The family of a transformers model; its config.json may name a relative (SAM 2's does)."""
    return FAMILIES[model.config_class.model_type]


class SamSegmenter:
    """A `Segmenter`: embeds every image once and decodes the boxes of all images in groups.

    `model` is a `SamModel`, `MobileSam`, `SamHQModel`, `Sam2Model` or `Sam3TrackerModel` in
    evaluation mode on the runtime's device, its vision encoder in the runtime's dtype and the rest
    in float32 (a box's corners lose their place in half precision). No call holds more than
    `max_boxes` decoded boxes and `max_pixels` upsampled mask pixels, however many boxes come in.
    `max_images` is what one pass of the encoder may hold where its memory has to be bounded (see
    `load.images_at_once`).
    `threads` write the masks' run lengths while the model goes on. With `stability`, masks have
    theirs (see `MaskEncoder`).
    """

    def __init__(
        self,
        model: Any,
        runtime: Runtime,
        *,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] = PIXEL_STD,
        mask_threshold: float = 0.0,
        max_images: int | None = None,
        max_boxes: int = 64,
        max_pixels: int = 2**25,
        threads: Executor | None = None,
        stability: bool = False,
    ) -> None:
        self.model = model
        self.family = family_of(model)
        self.size = int(model.config.prompt_encoder_config.image_size)
        self.runtime, self.mask_threshold = runtime, mask_threshold
        self.max_images, self.max_boxes, self.max_pixels = max_images, max_boxes, max_pixels
        self.threads, self.stability = threads, stability
        self.pixel_mean, self.pixel_std = tuple(pixel_mean), tuple(pixel_std)
        device = runtime.device
        self._mean = torch.tensor(pixel_mean, dtype=torch.float32, device=device)[:, None, None]
        self._std = torch.tensor(pixel_std, dtype=torch.float32, device=device)[:, None, None]

    @torch.inference_mode()
    def segment(
        self, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float32]]
    ) -> list[list[Mask]]:
        """One mask per box, at its image's own size, in the order of the boxes.

        `boxes_xyxy` holds (N, 4) float32 pixels of the original image, one array per image; they
        may reach outside. An image without boxes is skipped. Raises `FloatingPointError`
        where the model's numbers overflow its dtype.
        """
        encoder = MaskEncoder(self.max_pixels, self.mask_threshold, self.threads, self.stability)
        scored: list[tuple[int, float]] = []
        wanted = [index for index, boxes in enumerate(boxes_xyxy) if len(boxes)]
        for group in in_batches(wanted, self.max_images or max(len(wanted), 1)):
            frames, features = self.embed([images[index] for index in group])
            rows = [
                (row, box)
                for row, (frame, index) in enumerate(zip(frames, group, strict=True))
                for box in frame.to_frame(boxes_xyxy[index], np.float32)
            ]
            for chunk in in_batches(rows, self.max_boxes):
                of_image = np.array([row for row, _ in chunk])
                low_res, predicted_iou = self.decode(
                    features, of_image, np.stack([box for _, box in chunk])
                )
                scores = predicted_iou[:, 0].tolist()
                if not np.isfinite(scores).all():
                    raise FloatingPointError(
                        f"the segmenter's numbers overflow {self.runtime.dtype}; use bfloat16 or "
                        "float32"
                    )
                for row in np.unique(of_image):
                    places = np.flatnonzero(of_image == row)
                    own = slice(places[0], places[-1] + 1)  # an image's boxes stand together
                    encoder.add_logits(low_res[own], frames[row], padded=self._padded)
                    scored += [(group[row], score) for score in scores[own]]
                encoder.flush()
        masks: list[list[Mask]] = [[] for _ in images]
        stabilities = encoder.stabilities() or [None] * len(scored)
        for (index, score), (counts, area), stability in zip(
            scored, encoder.results(), stabilities, strict=True
        ):
            height, width = images[index].shape[:2]
            masks[index].append(Mask(counts, height, width, area, score, stability))
        return masks

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> tuple[list[ImageGeometry], Features]:
        """Every image's frame, and the features of all of them in one pass of the encoder."""
        frames = [
            geometry(self.family.fit, image.shape[1], image.shape[0], self.size) for image in images
        ]
        pixels_B3HW = torch.stack(
            [self.pixels(image, frame) for image, frame in zip(images, frames, strict=True)]
        )
        return frames, self.family.embed(self.model, pixels_B3HW.to(self.runtime.torch_dtype))

    @torch.inference_mode()
    def decode(
        self,
        features: Features,
        of_image: NDArray[np.integer],
        boxes_N4: NDArray[np.float32],
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits NMHW and predicted IoU NM of boxes in the model's frame.

        `of_image` (N,) says which row of the features each box belongs to.
        """
        device = torch.device(self.runtime.device)
        rows, boxes = upload(np.asarray(of_image, np.int64), device), upload(boxes_N4, device)
        selected = tuple(feature[rows] for feature in features)
        return self.family.decode(self.model, selected, boxes, multimask)

    def pixels(self, image: Image, frame: ImageGeometry) -> Tensor:
        """An image as the encoder reads it: resized, normalised, padded with zeros; float32."""
        normalised = (self.resize(image, frame).float() - self._mean) / self._std
        width, height = frame.content
        return F.pad(normalised, (0, self.size - width, 0, self.size - height))

    def resize(self, image: Image, frame: ImageGeometry) -> Tensor:
        """The image at the size of the frame's content, (3, height, width) uint8."""
        width, height = frame.content
        return resize_uint8(image, height, width, "bilinear", self.runtime.device)

    def upsample(self, low_res_NMHW: Tensor, frame: ImageGeometry) -> Tensor:
        """Logits at the image's own size, (N, M, height, width) float32."""
        return upsample(low_res_NMHW, frame, padded=self._padded)

    @property
    def _padded(self) -> bool:
        return self.family.fit == "longest-side"
