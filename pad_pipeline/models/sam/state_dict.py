"""SAM in the layout of the original `sam_vit_{h,l,b}_*.pth` files, for transformers' `SamModel`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import SamConfig

from pad_pipeline.errors import UserError

DECODER_HEADS = 8
"""Attention heads of the mask decoder in every released file; its weights do not show them."""

SHARED_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

_RENAMES = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"(\.layers\.\d+)\.norm([1-4])\.", r"\1.layer_norm\2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
)
"""Original -> transformers, applied in this order; the heads' layers are numbered in code."""

_HEAD_LAYER = re.compile(
    r"^mask_decoder\.(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.(\d+)\."
)


def check_original(state: Mapping[str, Tensor], *, source: str) -> None:
    """Raise `UserError` where these are not the key names of the original SAM."""
    if "image_encoder.patch_embed.proj.weight" not in state:
        raise UserError(
            f"{source} does not fit SAM: image_encoder.patch_embed.proj.weight is missing, its "
            f"first key is {min(state, default='none')}; expected the layout of "
            "sam_vit_h_4b8939.pth"
        )


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of `SamModel`.

    Keys that belong to no SAM pass through unchanged, so that strict loading reports them.
    """
    depth: dict[str, int] = {}
    for key in state:
        if found := _HEAD_LAYER.match(key):
            depth[found[1]] = max(depth.get(found[1], 0), int(found[2]) + 1)
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == SHARED_POSITIONS:
            renamed["shared_image_embedding.positional_embedding"] = tensor
            renamed["prompt_encoder.shared_embedding.positional_embedding"] = tensor
            continue
        if found := _HEAD_LAYER.match(key):
            index, last = int(found[2]), depth[found[1]] - 1
            layer = {0: "proj_in", last: "proj_out"}.get(index, f"layers.{index - 1}")
            key = f"mask_decoder.{found[1]}.{layer}.{key[found.end() :]}"
        for pattern, replacement in _RENAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed


def infer_config(
    state: Mapping[str, Tensor], *, source: str, decoder_heads: int = DECODER_HEADS
) -> SamConfig:
    """The sizes of the model whose original state dict this is, read from its tensors' shapes.

    The encoder's heads and which of its blocks attend globally follow from the tables of relative
    positions: a table has (2 · side − 1, head width) rows and columns, and a side equal to the
    token grid's means global. Raises `UserError` naming `source` where a tensor is missing or the
    shapes contradict each other.
    """
    try:
        return _config_from_shapes(state, decoder_heads)
    except KeyError as error:
        raise UserError(
            f"{source} does not fit SAM: {error.args[0]} is missing; expected the layout of "
            "sam_vit_h_4b8939.pth"
        ) from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{source} does not fit SAM: {error}") from error


def config_from_golden(
    golden: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str
) -> SamConfig:
    """The model's sizes: from the state dict as for a user's file, and what it cannot show.

    `golden` is the config.json of a folder of reference data. Raises `UserError` where the two
    contradict.
    """
    config = infer_config(
        state, source=source, decoder_heads=golden.get("decoder_num_heads", DECODER_HEADS)
    )
    vision: Any = config.vision_config
    decoder: Any = config.mask_decoder_config
    pairs = {
        "img_size": vision.image_size,
        "patch_size": vision.patch_size,
        "embed_dim": vision.hidden_size,
        "depth": vision.num_hidden_layers,
        "num_heads": vision.num_attention_heads,
        "out_chans": vision.output_channels,
        "decoder_depth": decoder.num_hidden_layers,
        "num_multimask_outputs": decoder.num_multimask_outputs,
    }
    wrong = [
        f"{name} is {found} by its tensors, {golden[name]} by that"
        for name, found in pairs.items()
        if golden.get(name, found) != found
    ]
    if wrong:
        raise UserError(f"{source} contradicts the config.json beside it: {'; '.join(wrong)}")
    vision.layer_norm_eps = golden.get("norm_eps", vision.layer_norm_eps)
    decoder.layer_norm_eps = golden.get("decoder_norm_eps", decoder.layer_norm_eps)
    return config


def prompt_sizes(state: Mapping[str, Tensor], image_size: int, patch_size: int) -> dict[str, Any]:
    """The options of `SamPromptEncoderConfig` that the tensors' shapes show."""
    return {
        "hidden_size": state["mask_decoder.iou_token.weight"].shape[1],
        "image_size": image_size,
        "patch_size": patch_size,
        "mask_input_channels": state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        "num_point_embeddings": count(state, r"prompt_encoder\.point_embeddings\.(\d+)\."),
    }


def decoder_sizes(state: Mapping[str, Tensor], heads: int) -> dict[str, Any]:
    """The options of `SamMaskDecoderConfig` that the tensors' shapes show, and the heads."""
    hidden = state["mask_decoder.iou_token.weight"].shape[1]
    inner = state["mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"].shape[0]
    if inner % heads:
        raise ValueError(
            f"its mask decoder's attention is {inner} wide, which {heads} heads do not "
            "divide; say how many heads it has (decoder_heads)"
        )
    head = "mask_decoder.iou_prediction_head.layers"
    return {
        "hidden_size": hidden,
        "mlp_dim": state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        "num_hidden_layers": count(state, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        "num_attention_heads": heads,
        "attention_downsample_rate": hidden // inner,
        "num_multimask_outputs": state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        "iou_head_depth": count(state, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        "iou_head_hidden_dim": state[f"{head}.0.weight"].shape[0],
        "layer_norm_eps": 1e-5,  # the original's; transformers' default is 1e-6
    }


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that the pattern's group matches in a key."""
    found = [int(match[1]) for key in state if (match := re.match(pattern, key))]
    if not found:
        raise KeyError(pattern.replace("\\", ""))
    return max(found) + 1


def _config_from_shapes(state: Mapping[str, Tensor], decoder_heads: int) -> SamConfig:
    width, channels, patch, _ = state["image_encoder.patch_embed.proj.weight"].shape
    grid = state["image_encoder.pos_embed"].shape[1]
    depth = count(state, r"image_encoder\.blocks\.(\d+)\.")
    tables = [tuple(state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape) for i in range(depth)]
    sides = [(rows + 1) // 2 for rows, _ in tables]
    windows = sorted({side for side in sides if side != grid})
    head_widths = {columns for _, columns in tables}
    if len(windows) > 1 or len(head_widths) != 1:
        raise ValueError(
            f"its blocks have windows of {windows} and head widths of {sorted(head_widths)}; "
            "all must agree"
        )
    vision: dict[str, Any] = {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": grid * patch,
        "num_hidden_layers": depth,
        "num_attention_heads": width // head_widths.pop(),
        "mlp_dim": state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
        "output_channels": state["image_encoder.neck.0.weight"].shape[0],
        "window_size": windows[0] if windows else 0,
        "global_attn_indexes": [i for i, side in enumerate(sides) if side == grid],
        "num_pos_feats": state[SHARED_POSITIONS].shape[1],
        "qkv_bias": "image_encoder.blocks.0.attn.qkv.bias" in state,
        "initializer_range": 0.02,  # transformers' own default of 1e-10 only serves as a trap
    }
    vision["mlp_ratio"] = vision["mlp_dim"] / width
    return SamConfig(
        vision_config=vision,
        prompt_encoder_config=prompt_sizes(state, grid * patch, patch),
        mask_decoder_config=decoder_sizes(state, decoder_heads),
    )
