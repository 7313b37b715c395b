"""What lies behind an entropy, on tokens whose moments are known."""

from __future__ import annotations

import math

import pytest
import torch

from pad_pipeline.evaluate.measures.entropy import EntropyMeter
from pad_pipeline.evaluate.measures.spectrum import Spectrum, SpectrumMeter


def spectrum_of(*batches: torch.Tensor) -> Spectrum:
    meter = SpectrumMeter()
    for batch in batches:
        meter.add(batch)
    assert meter.value is not None
    return meter.value


def test_orthogonal_tokens_of_different_length() -> None:
    found = spectrum_of(torch.diag(torch.tensor([1.0, 3.0])))
    shares = torch.tensor([0.1, 0.9])
    assert found.entropy == pytest.approx(-float((shares * shares.log()).sum()))
    assert found.unit_norm == pytest.approx(math.log(2))
    assert found.largest == pytest.approx((0.9, 0.1))
    assert found.mean_share == pytest.approx((0.25 + 2.25) / 5)
    assert found.centred == pytest.approx(0, abs=1e-9)  # two points differ in one direction


def test_a_mean_that_all_tokens_share_is_taken_away() -> None:
    random = torch.Generator().manual_seed(0)
    around = torch.randn(4000, 6, generator=random, dtype=torch.float64)
    shifted = around + torch.tensor([30.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    found = spectrum_of(shifted[:1000], shifted[1000:])
    assert found.num_tokens == 4000
    assert found.mean_share > 0.99
    assert found.entropy < 0.1
    assert found.centred == pytest.approx(math.log(6), abs=0.01)
    assert found.largest[0] == pytest.approx(900 / 906, abs=0.01)
    plain = EntropyMeter()
    plain.add(shifted)
    assert found.entropy == pytest.approx(plain.value)


def test_tokens_that_are_all_the_same_have_nothing_around_their_mean() -> None:
    found = spectrum_of(torch.ones(5, 3))
    assert (found.centred, found.unit_norm_centred) == (None, None)
    assert found.mean_share == pytest.approx(1)
    meter = SpectrumMeter()
    meter.add(torch.zeros(0, 3))
    assert meter.value is None
