"""The parts of SAM 3 one after another, so that an image is encoded once for all of its words.

transformers' `Sam3Model` takes one image with one prompt. Its modules are called here in the same
order, on pairs of an image's features and a word, in batches over all images, as DART does (arXiv
2603.11441). Legend of the shape suffixes: B images, R pairs, T tokens of a prompt, C channels,
S places of the coarsest level, Q queries, H and W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.sam3.modeling_sam3 import box_cxcywh_to_xyxy, inverse_sigmoid


@dataclass(frozen=True, slots=True)
class Features:
    """What the image encoder gives for B images."""

    levels: tuple[Tensor, ...]
    """BCHW, from fine to coarse."""
    positions: Tensor
    """BCHW, the encoding of the places of the coarsest level."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The encoded words of R pairs, padded to one length."""

    features_RTC: Tensor
    is_token_RT: Tensor

    @property
    def mask(self) -> Tensor:
        """What attention takes: (R, 1, 1, T), true for tokens."""
        return self.is_token_RT[:, None, None]


@dataclass(frozen=True, slots=True)
class Found:
    """What the decoder says of R pairs; all float32 but `encoded`."""

    logits_RQ: Tensor
    presence_R: Tensor
    """Logit of the word being in the image at all."""
    boxes_RQ4: Tensor
    """x0, y0, x1, y1 in 0–1 of the image."""
    queries_RQC: Tensor
    encoded_RSC: Tensor
    """The image's features as the word changes them, of which masks are made."""


def encode_images(model: Any, pixels_B3HW: Tensor) -> Features:
    """The features of images of the model's size."""
    output = model.vision_encoder(pixels_B3HW)
    # the last level is for the video tracker alone
    return Features(output.fpn_hidden_states[:-1], output.fpn_position_encoding[-2])


def encode_text(model: Any, ids_RT: Tensor, is_token_RT: Tensor) -> Tensor:
    """Features RTC of prompts that are padded to the model's length."""
    return model.get_text_features(
        input_ids=ids_RT, attention_mask=is_token_RT.long(), return_dict=True
    ).pooler_output


def find(model: Any, features: Features, rows: Tensor, prompts: Prompts) -> Found:
    """Logits, presence and boxes of R pairs; `rows` (R,) says which image each word is for."""
    coarse = features.levels[-1][rows]
    encoded_RSC = model.detr_encoder(
        vision_features=[coarse],
        text_features=prompts.features_RTC,
        vision_pos_embeds=[features.positions[rows]],
        text_mask=prompts.mask,
    ).last_hidden_state
    words_RTC = prompts.features_RTC.float()
    decoded = model.detr_decoder(
        vision_features=encoded_RSC.float(),
        text_features=words_RTC,
        vision_pos_encoding=features.positions[rows].flatten(2).transpose(1, 2).float(),
        text_mask=prompts.mask,
        # on the CPU: the sizes are read there, and a GPU would be waited for in every layer
        spatial_shapes=torch.tensor([coarse.shape[-2:]], device="cpu"),
    )
    queries_RQC = decoded.intermediate_hidden_states[-1]
    offsets = model.detr_decoder.box_head(queries_RQC)
    boxes_RQ4 = (inverse_sigmoid(decoded.reference_boxes[-1]) + offsets).sigmoid()
    logits = model.dot_product_scoring(
        decoder_hidden_states=queries_RQC[None],
        text_features=words_RTC,
        text_mask=prompts.is_token_RT,
    )
    return Found(
        logits_RQ=logits[0, ..., 0],
        presence_R=decoded.presence_logits[-1][:, 0],
        boxes_RQ4=box_cxcywh_to_xyxy(boxes_RQ4),
        queries_RQC=queries_RQC,
        encoded_RSC=encoded_RSC,
    )


def draw(
    model: Any,
    features: Features,
    rows: Tensor,
    prompts: Prompts,
    encoded_RSC: Tensor,
    queries_RQC: Tensor,
) -> Tensor:
    """Mask logits RQHW, at the size of the finest level, of some queries of each pair."""
    return model.mask_decoder(
        decoder_queries=queries_RQC.to(encoded_RSC.dtype),
        backbone_features=[level[rows] for level in features.levels],
        encoder_hidden_states=encoded_RSC,
        prompt_features=prompts.features_RTC,
        prompt_mask=prompts.mask,
    ).pred_masks
