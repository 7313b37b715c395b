"""Von Neumann entropy against recorded values and what must leave it as it is."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures.entropy import EntropyMeter, delta_entropy
from tests.golden_data import golden_dir


def entropy(*batches: Tensor) -> float:
    meter = EntropyMeter()
    for batch in batches:
        meter.add(batch)
    return meter.value


def random_tokens(number: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(
        number, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def test_golden_entropies():
    folder = golden_dir("analysis")
    cases = json.loads((folder / "entropy.json").read_text())["cases"]
    arrays = load_file(folder / "entropy.safetensors")
    assert cases
    for case in cases:
        tokens = arrays[case["name"]]
        if case["entropy"] is None:
            with pytest.raises(UserError, match="undefined"):
                entropy(tokens)
            continue
        for parts in (1, 3):
            found = entropy(*tokens.chunk(parts))
            assert found == pytest.approx(case["entropy"], abs=1e-9), case["name"]


def test_golden_compression_of_the_projector():
    golden = json.loads((golden_dir("analysis") / "entropy.json").read_text())
    expected = golden["projector_compression"]
    arrays = load_file(golden_dir("llava_tiny") / "expected.safetensors")
    before, after = EntropyMeter(), EntropyMeter()
    for image in arrays["pretrain.vision_features"]:
        before.add(image)
    for image in arrays["pretrain.image_features"]:
        after.add(image)
    assert before.value == pytest.approx(expected["before"], abs=1e-6)
    assert after.value == pytest.approx(expected["after"], abs=1e-6)
    assert delta_entropy(before, after) == pytest.approx(expected["delta"], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_is_that_of_the_singular_values_and_does_not_see_scale_order_or_rotation(
    number, width, seed, scale
):
    tokens = random_tokens(number, width, seed)
    shares = torch.linalg.svdvals(tokens) ** 2
    shares = shares / shares.sum()
    expected = -sum(share * math.log(share) for share in shares.tolist() if share > 0)
    rotation = torch.linalg.qr(random_tokens(width, width, seed + 1)).Q
    found = entropy(tokens)
    assert found == pytest.approx(expected, abs=1e-8)
    assert 0 <= found <= math.log(min(number, width)) + 1e-9
    assert entropy(scale * tokens.flip(0) @ rotation) == pytest.approx(found, abs=1e-8)


def test_blocks_of_columns_do_not_show():
    tokens = random_tokens(40, 1100)  # two whole blocks and a part of one
    shares = torch.linalg.svdvals(tokens) ** 2
    shares /= shares.sum()
    assert entropy(tokens) == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-8)


def test_workers_merge_to_the_entropy_of_all():
    tokens = random_tokens(50, 7)
    meters = [EntropyMeter() for _ in range(4)]
    for meter, part in zip(meters, tokens.chunk(3), strict=False):
        meter.add(part)
    whole = EntropyMeter()
    for meter in meters:
        whole.merge(meter)
    assert whole.num_tokens == 50
    assert whole.value == pytest.approx(entropy(tokens), abs=1e-12)
    meters[0].merge(meters[1])
    assert meters[1].num_tokens == len(tokens.chunk(3)[1])  # the other one stays as it was


def test_memory_does_not_grow_with_tokens():
    meter = EntropyMeter()
    for seed in range(5):
        meter.add(random_tokens(5000, 3, seed).requires_grad_())
    kept = [value for value in vars(meter).values() if isinstance(value, Tensor)]
    assert [tuple(value.shape) for value in kept] == [(3, 3)]
    assert not kept[0].requires_grad
    assert meter.num_tokens == 25_000


def test_bfloat16_is_summed_in_float64():
    tokens = random_tokens(300, 8).bfloat16()
    assert entropy(tokens) == pytest.approx(entropy(tokens.double()), abs=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_is_refused_and_leaves_the_meter_as_it_was(bad):
    meter = EntropyMeter()
    meter.add(random_tokens(9, 3))
    before = meter.value
    tokens = random_tokens(9, 3, 1)
    tokens[4, 1] = bad
    with pytest.raises(UserError, match="1 of 9 vectors of the tokens hold NaN or infinity"):
        meter.add(tokens)
    assert meter.value == before


def test_other_widths_and_types_are_refused():
    meter = EntropyMeter()
    meter.add(random_tokens(4, 3))
    with pytest.raises(UserError, match="5 wide where 3 was expected"):
        meter.add(random_tokens(4, 5))
    with pytest.raises(UserError, match="floating-point"):
        meter.add(torch.ones(4, 3, dtype=torch.int64))
    other = EntropyMeter()
    other.add(random_tokens(4, 5))
    with pytest.raises(UserError, match="no common entropy"):
        meter.merge(other)
    with pytest.raises(UserError, match="undefined"):
        _ = EntropyMeter().value
