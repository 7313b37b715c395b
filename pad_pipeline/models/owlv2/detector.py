"""OWLv2 as a detector: the boxes of an image's own tags, its features computed once for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.compiling import compile_blocks
from pad_pipeline.models.constants import Constants
from pad_pipeline.models.owlv2.preprocessing import Preprocessing, prepare_image
from pad_pipeline.models.protocols import Boxes, Image

logger = logging.getLogger(__name__)

PROMPT = "a photo of a {}"
"""What the model is asked for a tag, as its authors ask it."""

_TEXT_BYTES = 2**26
"""Of the embeddings that are kept; one of the large model takes 3 KB."""


class Owlv2Detector:
    """A `Detector`: scores every patch of an image against each of its tags.

    `model` is transformers' `Owlv2ForObjectDetection` in evaluation mode on the runtime's device,
    its image encoder in the runtime's dtype and the rest in float32. A patch has one box, which is
    labelled with the tag that it fits best, where that scores above `box_threshold`. The embedding
    of a tag is computed when it is first asked for, by itself, and kept.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        runtime: Runtime,
        preprocessing: Preprocessing,
        *,
        box_threshold: float = 0.3,
    ) -> None:
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.preprocessing, self.box_threshold = preprocessing, box_threshold
        self._texts: Constants[Tensor] = Constants(_TEXT_BYTES)
        if runtime.compile:
            compile_blocks(model.owlv2.vision_model.encoder.layers)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the model sees an image: the same square for all."""
        return self.preprocessing.side, self.preprocessing.side

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        """The boxes of each image for its own tags; an image without tags has none.

        Boxes that lie in the padding beyond the image are left out. Raises `FloatingPointError`
        where the model's numbers overflow its dtype.
        """
        found = [Boxes() for _ in images]
        wanted = [index for index, words in enumerate(tags) if words]
        if not wanted:
            return found
        features_BPC = self.embed([images[index] for index in wanted])
        boxes_BP4 = self.model.box_predictor(features_BPC, self._map(features_BPC))
        for index, features_PC, boxes_P4 in zip(wanted, features_BPC, boxes_BP4, strict=True):
            words = list(dict.fromkeys(tags[index]))
            logits_PT, _ = self.model.class_head(features_PC, self.embed_tags(words), None)
            scores, best = logits_PT.sigmoid().max(-1)
            rows = torch.cat([boxes_P4, scores[:, None], best[:, None]], 1).cpu().numpy()
            if not np.isfinite(rows).all():
                raise FloatingPointError(
                    f"the detector's scores overflow {self.runtime.dtype}; use bfloat16 or float32"
                )
            found[index] = self._select(rows, words, images[index].shape[:2])
        return found

    def embed(self, images: Sequence[Image]) -> Tensor:
        """The features of each image's patches, (B, patches, C) float32."""
        settings, device = self.preprocessing, torch.device(self.runtime.device)
        pixels_B3HW = torch.stack([prepare_image(image, settings, device) for image in images])
        vision = self.model.owlv2.vision_model
        states = vision(pixels_B3HW.to(self.runtime.torch_dtype)).last_hidden_state.float()
        states = vision.post_layernorm(states)
        return self.model.layer_norm(states[:, 1:] * states[:, :1])

    def embed_tags(self, tags: Sequence[str]) -> Tensor:
        """The embedding of each tag's question, (T, C) float32."""
        return torch.stack(self._texts.get_all(list(tags), self._embed_texts))

    def _embed_texts(self, tags: Sequence[str]) -> list[Tensor]:
        """One pass for each, so that an embedding follows from its tag alone, bit for bit."""
        length = self.model.config.text_config.max_position_embeddings
        embeddings = []
        for tag in tags:
            ids = self.tokenizer(PROMPT.format(tag))["input_ids"]
            if len(ids) > length:
                logger.warning(
                    "the tag %r is longer than the %d tokens that OWLv2 reads: its end is not seen",
                    tag,
                    length,
                )
            text = self.tokenizer(
                PROMPT.format(tag),
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            ).to(self.runtime.device)
            output = self.model.owlv2.get_text_features(
                input_ids=text["input_ids"], attention_mask=text["attention_mask"]
            )
            embeddings.append(output.pooler_output[0])
        return embeddings

    def _map(self, features_BPC: Tensor) -> Tensor:
        side = self.model.num_patches_height
        return features_BPC.unflatten(1, (side, side))

    def _select(
        self, rows: NDArray[np.float32], tags: Sequence[str], size: tuple[int, ...]
    ) -> Boxes:
        """What passes the threshold and touches the image, of boxes in shares of the square."""
        height, width = size
        rows = rows[rows[:, 4] > self.box_threshold]
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        corners = np.concatenate([centre - half, centre + half], 1)
        xyxy = (corners * max(size)).astype(np.float32)
        inside = (xyxy[:, 0] < width) & (xyxy[:, 1] < height)
        labels = np.array(tags, object)[rows[inside, 5].astype(np.intp)]
        return Boxes(xyxy[inside], rows[inside, 4], tuple(labels), 1)
