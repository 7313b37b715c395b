"""How many launches a pass of the released size takes."""

from __future__ import annotations

import json
from functools import partial
from unittest.mock import patch

import torch

from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.models.ram.state_dict import infer_ram_config
from tests.golden_data import golden_dir
from tests.launches import LaunchCounter, fused_attention


def test_a_pass_of_ram_takes_at_most_400_launches() -> None:
    listed = json.loads(golden_dir("ram_full_keys.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, shape, *_ in listed["keys"]}
    config = infer_ram_config(state, [f"tag {index}" for index in range(4585)])
    with torch.device("meta"):
        model = RecognizeAnything(config).to(torch.bfloat16).eval()
    pixels = torch.empty(32, 3, 384, 384, device="meta", dtype=torch.bfloat16)
    counter = LaunchCounter()
    attention = partial(fused_attention, counter)
    with (
        torch.no_grad(),
        patch.object(torch.nn.functional, "scaled_dot_product_attention", attention),
    ):
        model(pixels)
        counter.counts.clear()
        with counter:
            model(pixels)
    assert counter.total <= 400, counter.counts
