"""Grounding DINO in the layout of the original `groundingdino_swin*.pth`, for transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GroundingDinoConfig

from pad_pipeline.errors import UserError
from pad_pipeline.models.swin import convert_swin

UNUSED_KEYS = (
    r"label_enc\.weight",  # denoising queries of the training code
    r"bert\.embeddings\.position_ids",  # 0, 1, 2 …; the phrases' own positions are used instead
    r"bert\.pooler\.dense\.(weight|bias)",  # the text encoder's tokens are used, not its summary
)
"""Original keys (full matches) that inference never reads; they are dropped.

So are Swin's `relative_position_index` buffers (`swin.UNUSED_BUFFERS`).
"""

NUM_POINTS = 4
"""Sampling points per head and level in every released file; the weights do not show them."""

BERT_HEAD_WIDTH = 64
"""Width of a BERT attention head in every released file; the weights do not show it."""

_BACKBONE = "backbone.0."
_SWIN = "model.backbone.conv_encoder.model."
_ATTENTION = re.compile(r"(.+\.(?:self_attn|ca_text))\.in_proj_(weight|bias)$")

_RENAMES = (
    (r"^transformer\.encoder\.layers\.(\d+)\.", r"model.encoder.layers.\1.deformable_layer."),
    (r"(deformable_layer)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"(deformable_layer)\.norm2\.", r"\1.final_layer_norm."),
    (
        r"^transformer\.encoder\.text_layers\.(\d+)\.",
        r"model.encoder.layers.\1.text_enhancer_layer.",
    ),
    (r"(text_enhancer_layer)\.norm1\.", r"\1.layer_norm_before."),
    (r"(text_enhancer_layer)\.norm2\.", r"\1.layer_norm_after."),
    (r"^transformer\.encoder\.fusion_layers\.(\d+)\.", r"model.encoder.layers.\1.fusion_layer."),
    (r"(fusion_layer)\.gamma_v$", r"\1.vision_param"),
    (r"(fusion_layer)\.gamma_l$", r"\1.text_param"),
    (r"(fusion_layer)\.layer_norm_v\.", r"\1.layer_norm_vision."),
    (r"(fusion_layer)\.layer_norm_l\.", r"\1.layer_norm_text."),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)v_proj\.", r"\1vision_proj."),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)l_proj\.", r"\1text_proj."),
    (r"^transformer\.decoder\.layers\.", "model.decoder.layers."),
    (r"^(model\.decoder\.layers\.\d+)\.norm1\.", r"\1.encoder_attn_layer_norm."),
    (r"^(model\.decoder\.layers\.\d+)\.norm2\.", r"\1.self_attn_layer_norm."),
    (r"^(model\.decoder\.layers\.\d+)\.norm3\.", r"\1.final_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.ca_text\.", ".encoder_attn_text."),
    (r"\.catext_norm\.", ".encoder_attn_text_layer_norm."),
    (r"\.linear([12])\.", r".fc\1."),
    (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
    (r"^transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
    (r"^transformer\.decoder\.bbox_embed\.", "model.decoder.bbox_embed."),
    (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
    (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
    (r"^transformer\.(level_embed$|enc_output\.|enc_output_norm\.)", r"model.\1"),
    (r"^input_proj\.", "model.input_proj_vision."),
    (r"^feat_map\.", "model.text_projection."),
    (r"^bert\.", "model.text_backbone."),
)
"""Original -> transformers, applied in this order. `bbox_embed.…` keeps its name."""


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the leading `module.` that data-parallel training leaves."""
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the key names of the original Grounding DINO."""
    return "transformer.level_embed" in without_prefix(state)


def convert_grounding_dino(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of transformers' `GroundingDinoForObjectDetection`.

    Left out are `UNUSED_KEYS`. Added is the weight of `swin.layernorm`, which normalises an output
    that a detection backbone has no use for and that the original does not have. Keys that belong
    to no Grounding DINO pass through unchanged, so that strict loading reports them. Raises
    `UserError` where box heads that the model shares between its layers differ.
    """
    state = without_prefix(state)
    unused = re.compile("|".join(UNUSED_KEYS))
    swin = {
        key.removeprefix(_BACKBONE): tensor
        for key, tensor in state.items()
        if key.startswith(_BACKBONE)
    }
    converted: dict[str, Tensor] = {}
    for key, tensor in convert_swin(swin).items():
        prefix = _SWIN if key.startswith("hidden_states_norms.") else f"{_SWIN}swin."
        converted[prefix + key] = tensor
    for key, tensor in state.items():
        if key.startswith(_BACKBONE) or unused.fullmatch(key):
            continue
        if found := _ATTENTION.match(key):
            for name, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                converted[_rename(f"{found[1]}.{name}.{found[2]}")] = third
        else:
            converted[_rename(key)] = tensor
    _check_shared_heads(converted)
    last = f"{_SWIN}hidden_states_norms.stage{_num_stages(swin)}.weight"
    if last in converted:
        converted[f"{_SWIN}swin.layernorm.weight"] = torch.ones_like(converted[last])
        converted[f"{_SWIN}swin.layernorm.bias"] = torch.zeros_like(converted[last])
    return converted


def infer_config(state: Mapping[str, Tensor], *, source: str) -> GroundingDinoConfig:
    """The sizes of the model whose original state dict this is, read from its tensors' shapes.

    Raises `UserError` naming `source` where a tensor that tells a size is missing.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in without_prefix(state).items()}
    try:
        return _config_from_shapes(shapes)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{source} does not fit Grounding DINO: {error.args[0]} is missing or has another "
            "form; expected the layout of groundingdino_swint_ogc.pth"
        ) from error


def config_from_golden(config: Mapping[str, Any]) -> GroundingDinoConfig:
    """The transformers config of a golden folder's `config.json`.

    Raises `UserError` for options of the original that transformers' model does not have.
    """
    wanted = {
        "two_stage": "standard",
        "embed_init_tgt": True,
        "two_stage_bbox_embed_share": False,
        "dec_pred_bbox_embed_share": True,
        "group_norm_groups": 32,
        "pe_temperature_h": config["pe_temperature_w"],
        "text_pos_features": config["hidden_dim"],
        "query_pos_features_per_coordinate": config["hidden_dim"] // 2,
        "fusion_embed_dim": config["dim_feedforward"] // 2,
        "fusion_heads": config["nheads"] // 2,
        "text_layer_heads": config["nheads"] // 2,
        "text_layer_ffn": config["dim_feedforward"] // 2,
    }
    for name, value in wanted.items():
        if name in config and config[name] != value:
            raise UserError(
                f"Grounding DINO with {name} {config[name]!r} cannot be built; here it is {value!r}"
            )
    swin, bert = config["swin"], config["bert"]
    return _build(
        swin={
            "embed_dim": swin["embed_dim"],
            "depths": list(swin["depths"]),
            "num_heads": list(swin["num_heads"]),
            "window_size": swin["window_size"],
            "patch_size": swin["patch_size"],
            "mlp_ratio": swin["mlp_ratio"],
            "layer_norm_eps": swin["norm_eps"],
            "out_indices": [index + 1 for index in swin["out_indices"]],
        },
        bert=dict(bert),
        d_model=config["hidden_dim"],
        num_queries=config["num_queries"],
        num_feature_levels=config["num_feature_levels"],
        encoder_layers=config["enc_layers"],
        decoder_layers=config["dec_layers"],
        encoder_ffn_dim=config["dim_feedforward"],
        decoder_ffn_dim=config["dim_feedforward"],
        encoder_attention_heads=config["nheads"],
        decoder_attention_heads=config["nheads"],
        encoder_n_points=config["enc_n_points"],
        decoder_n_points=config["dec_n_points"],
        max_text_len=config["max_text_len"],
        positional_embedding_temperature=config["pe_temperature_w"],
    )


def _build(swin: dict[str, Any], bert: dict[str, Any], **sizes: Any) -> GroundingDinoConfig:
    return GroundingDinoConfig(
        backbone_config={"model_type": "swin", "drop_path_rate": 0.0, **swin},  # pyright: ignore
        text_config={"model_type": "bert", **bert},
        disable_custom_kernels=True,  # they are fetched from a hub, and none is used here
        **sizes,
    )


def _config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> GroundingDinoConfig:
    levels, width = shapes["transformer.level_embed"]
    encoder, decoder = "transformer.encoder.layers", "transformer.decoder.layers"
    stages = _num_stages(shapes)
    embed_dim, _, patch, _ = shapes[f"{_BACKBONE}patch_embed.proj.weight"]
    tables = [
        shapes[f"{_BACKBONE}layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        for stage in range(stages)
    ]
    vocabulary, bert_width = shapes["bert.embeddings.word_embeddings.weight"]
    bert_ffn = shapes["bert.encoder.layer.0.intermediate.dense.weight"][0]

    def heads(layers: str, attention: str) -> int:
        return shapes[f"{layers}.0.{attention}.attention_weights.bias"][0] // (levels * NUM_POINTS)

    return _build(
        swin={
            "embed_dim": embed_dim,
            "depths": [
                _count(shapes, rf"backbone\.0\.layers\.{stage}\.blocks\.(\d+)\.")
                for stage in range(stages)
            ],
            "num_heads": [num_heads for _, num_heads in tables],
            # a table holds (2 · window − 1)² offsets
            "window_size": (int(tables[0][0] ** 0.5) + 1) // 2,
            "patch_size": patch,
            "mlp_ratio": shapes[f"{_BACKBONE}layers.0.blocks.0.mlp.fc1.bias"][0] / embed_dim,
            "out_indices": [
                stage + 1 for stage in range(stages) if f"{_BACKBONE}norm{stage}.weight" in shapes
            ],
        },
        bert={
            "vocab_size": vocabulary,
            "hidden_size": bert_width,
            "num_hidden_layers": _count(shapes, r"bert\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": max(1, bert_width // BERT_HEAD_WIDTH),
            "intermediate_size": bert_ffn,
            "max_position_embeddings": shapes["bert.embeddings.position_embeddings.weight"][0],
            "type_vocab_size": shapes["bert.embeddings.token_type_embeddings.weight"][0],
        },
        d_model=width,
        num_queries=shapes["transformer.tgt_embed.weight"][0],
        num_feature_levels=levels,
        encoder_layers=_count(shapes, r"transformer\.encoder\.layers\.(\d+)\."),
        decoder_layers=_count(shapes, r"transformer\.decoder\.layers\.(\d+)\."),
        encoder_ffn_dim=shapes[f"{encoder}.0.linear1.bias"][0],
        decoder_ffn_dim=shapes[f"{decoder}.0.linear1.bias"][0],
        encoder_attention_heads=heads(encoder, "self_attn"),
        decoder_attention_heads=heads(decoder, "cross_attn"),
        encoder_n_points=NUM_POINTS,
        decoder_n_points=NUM_POINTS,
    )


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _check_shared_heads(converted: Mapping[str, Tensor]) -> None:
    """All `bbox_embed` layers are one layer under many names; two that differ cannot be loaded."""
    for key, tensor in converted.items():
        if not (found := re.match(r"(?:model\.decoder\.)?bbox_embed\.\d+\.(.+)", key)):
            continue
        first = converted.get(f"bbox_embed.0.{found[1]}")
        if first is None or first.is_meta or first.shape != tensor.shape:
            continue  # strict loading names what is missing or of another shape
        if not torch.equal(first, tensor):
            raise UserError(
                f"the checkpoint's box heads differ between layers ({key}); expected one head that "
                "all layers share, as in the released files"
            )


def _num_stages(keys: Mapping[str, Any]) -> int:
    return _count(keys, r"(?:backbone\.0\.)?layers\.(\d+)\.blocks\.")


def _count(keys: Mapping[str, Any], pattern: str) -> int:
    """One more than the largest number that the pattern's group matches in a key."""
    found = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    if not found:
        raise KeyError(pattern.replace("\\", ""))
    return max(found) + 1
