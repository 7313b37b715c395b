"""The words of images as SAM 3's text encoder reads them, each encoded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.sam3.network import Prompts, encode_text

LENGTH = 32
"""Tokens of a prompt, its begin and end among them; shorter ones are padded."""

CACHE_BYTES = 2**28
"""What encoded words may take: RAM's 4,585 tags take 19 MB in bfloat16 at four tokens a tag."""

logger = logging.getLogger(__name__)


class WordEncoder:
    """Encodes words and keeps what comes out, without the padding.

    A word goes through the text encoder alone, so that its features do not depend on those that
    are new at the same time. `num_encoded` counts the passes.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str | torch.device) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, torch.device(device)
        self.num_encoded = 0
        self._kept: Constants[Tensor] = Constants(CACHE_BYTES)

    def encode(self, words: Sequence[str]) -> Prompts:
        """The prompts of words, in their order; a word past `LENGTH` tokens is cut and named."""
        features = self._kept.get_all(words, lambda missing: [self._encode(one) for one in missing])
        padded_RTC = features[0].new_zeros(len(words), LENGTH, features[0].shape[-1])
        for row, own in zip(padded_RTC, features, strict=True):
            row[: len(own)] = own
        lengths = np.array([len(own) for own in features])
        return Prompts(padded_RTC, upload(np.arange(LENGTH) < lengths[:, None], self.device))

    def _encode(self, word: str) -> Tensor:
        """(tokens, C) features of one word."""
        ids = self.tokenizer(word)["input_ids"]
        if len(ids) > LENGTH:
            logger.warning("tags are cut to the %d tokens that SAM 3 reads: %s", LENGTH, word)
            ids = self.tokenizer(word, truncation=True, max_length=LENGTH)["input_ids"]
        padded = np.full((1, LENGTH), self.tokenizer.pad_token_id, np.int64)
        padded[0, : len(ids)] = ids
        is_token = np.arange(LENGTH)[None] < len(ids)
        self.num_encoded += 1
        features_RTC = encode_text(
            self.model, upload(padded, self.device), upload(is_token, self.device)
        )
        return features_RTC[0, : len(ids)].clone()
