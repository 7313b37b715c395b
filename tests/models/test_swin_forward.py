"""Swin as we run it gives transformers' numbers for maps of any size."""

from __future__ import annotations

import pytest
import torch
from transformers import SwinBackbone, SwinConfig

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.swin_forward import cut_windows, prepare_swin, run_swin


@pytest.fixture(scope="module")
def backbone() -> SwinBackbone:
    torch.manual_seed(0)
    config = SwinConfig(
        image_size=56, embed_dim=16, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=7,
        out_features=["stage2", "stage3"],
    )  # fmt: skip
    backbone = SwinBackbone(config).eval()
    for parameter in backbone.parameters():
        parameter.data.normal_(0, 0.3)
    return backbone


@pytest.mark.parametrize("size", [(112, 112), (100, 151), (37, 9), (8, 8), (1, 57)])
@torch.inference_mode()
def test_maps_are_those_of_transformers(backbone: SwinBackbone, size: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, *size)
    swin = prepare_swin(backbone.swin, dict(backbone.hidden_states_norms.items()))
    found = list(run_swin(swin, pixels, Constants(2**20)))
    expected = backbone(pixels).feature_maps
    assert len(found) == len(expected) == 2
    for (tokens, shape), plane in zip(found, expected, strict=True):
        assert shape == plane.shape[2:]
        torch.testing.assert_close(tokens, plane.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [0, 3])
def test_every_token_has_one_place(shift: int) -> None:
    windows = cut_windows(10, 15, 7, shift, torch.device("cpu"))
    assert windows.num_windows == 2 * 3
    assert torch.equal(windows.cut[windows.back.long()], torch.arange(150, dtype=torch.int32))
    assert (windows.cut == 150).sum() == 6 * 49 - 150
    assert (windows.together is None) == (shift == 0)
