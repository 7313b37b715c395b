"""Fused attention with relative positions equals attention with a bias."""

from __future__ import annotations

import copy

import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from pad_pipeline.models.sam.attention import (
    attend_folded,
    attend_in_windows,
    attend_with_bias,
    one_hot_places,
    split_features,
    use_fused_attention,
)


def test_position_terms_folded_into_the_features_are_the_bias() -> None:
    generator = torch.Generator().manual_seed(0)
    height, width, heads, features = 5, 7, 2, 12
    query, key, value = torch.randn(3, 4, heads, height * width, features, generator=generator)
    to_rows = torch.randn(4, heads, height * width, height, generator=generator)
    to_columns = torch.randn(4, heads, height * width, width, generator=generator)
    places = one_hot_places(height, width, key)
    folded = attend_folded(query, key, value, to_rows, to_columns, places)
    by_bias = attend_with_bias(query, key, value, to_rows, to_columns)
    assert by_bias.std() > 0.1
    torch.testing.assert_close(folded, by_bias, atol=1e-5, rtol=1e-5)


def vision_encoder() -> SamVisionEncoder:
    """Two layers of windows that reach outside of the image, one of the whole image."""
    config = SamVisionConfig(
        hidden_size=96, num_attention_heads=2, image_size=9 * 16, patch_size=16, window_size=4,
        mlp_dim=64, num_hidden_layers=3, global_attn_indexes=[1], output_channels=16,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    encoder = SamVisionEncoder(config).eval().requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    return encoder


def test_a_padded_key_is_the_bias_of_the_projection() -> None:
    """Which lets the kernels read the windows where they lie, without a token of padding."""
    encoder = vision_encoder()
    layer = encoder.layers[0]
    tokens = torch.randn(2, 9, 9, 96)
    windows, padded = layer.window_partition(tokens, 4)
    by_transformers = layer.window_unpartition(layer.attn(windows)[0], 4, padded, (9, 9))
    module = layer.attn
    qkv = module.qkv(tokens).unflatten(-1, (3, 2, 48))
    read = attend_in_windows(qkv, module.qkv.bias, module.rel_pos_h, module.rel_pos_w, 4)
    assert by_transformers.std() > 0.1
    torch.testing.assert_close(module.proj(read), by_transformers, atol=1e-5, rtol=1e-5)


def test_the_fused_layers_are_transformers_layers() -> None:
    encoder = vision_encoder()
    fused = copy.deepcopy(encoder)
    use_fused_attention(fused)
    pixels = torch.randn(2, 3, 144, 144)
    by_transformers = encoder(pixels).last_hidden_state
    torch.testing.assert_close(fused(pixels).last_hidden_state, by_transformers, atol=1e-4, rtol=0)
    assert fused.state_dict().keys() == encoder.state_dict().keys()


def test_heads_have_two_tiles_where_their_features_are_powers_of_two_or_sums_of_two() -> None:
    assert {features: split_features(features) for features in (80, 64, 16, 96, 24, 8, 72)} == {
        80: (64, 16), 64: (64, 0), 16: (16, 0), 96: (64, 32), 24: None, 8: None, 72: None,
    }  # fmt: skip
