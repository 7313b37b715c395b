"""Linear layers in 8 bits: their numbers, and GPUs that cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pad_pipeline.errors import UserError
from pad_pipeline.models import fp8
from pad_pipeline.models.fp8 import LARGEST, ScaledLinear, check_fp8, scale_rows
from pad_pipeline.models.precision import check_quantize


def test_rows_in_8_bits_are_off_by_a_sixteenth_at_most() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 7, 96) * torch.tensor([1e-3, 1.0, 1e3, 1e6])[:, None, None]
    x[0, 0] = 0
    values, scales = scale_rows(x)
    assert (values.shape, scales.shape) == (x.shape, (4, 7, 1))
    assert values.float().abs().amax(-1)[1:].eq(LARGEST).all()
    back = values.float() * scales
    assert back[0, 0].eq(0).all()
    # 3 bits of mantissa; below 2^-6 of a row's scale numbers are 2^-9 apart
    torch.testing.assert_close(back, x, rtol=1 / 16, atol=float(x.abs().max()) / LARGEST / 2**10)


def test_a_layer_in_8_bits_gives_nearly_what_it_gave() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 48).requires_grad_(False)
    x = torch.randn(2, 5, 96)
    scaled = ScaledLinear(linear, emulate=True)
    found = scaled(x)
    assert torch.equal(found, scaled(scale_rows(x)))
    error = float((found - linear(x)).norm() / linear(x).norm())
    assert 1e-3 < error < 0.05
    assert scaled.to(torch.float32).values.dtype == torch.float32  # so quantize after `to`
    assert ScaledLinear(linear.bfloat16(), emulate=True)(x).dtype == torch.bfloat16


def test_a_run_is_told_before_it_starts_that_8_bits_need_a_gpu_and_bfloat16() -> None:
    check_quantize("none", "cpu", "float32")
    check_quantize("fp8", "cuda", "bfloat16")
    with pytest.raises(UserError, match=r"needs a GPU; on a CPU .* compare-precision"):
        check_quantize("fp8", "cpu", "float32")
    with pytest.raises(UserError, match="needs dtype='bfloat16', not float16"):
        check_quantize("fp8", "cuda", "float16")


@pytest.mark.parametrize(
    ("capability", "product", "sentence"),
    [
        ((8, 0), None, "needs a GPU of compute capability 8.9 or later, .* the A100 has 8.0"),
        ((9, 0), RuntimeError("no kernel"), "does not work with this GPU and build .*no kernel"),
        ((9, 0), 0.3, "is off by 30% of what it should compute on this GPU"),
        ((9, 0), float("nan"), "is off by nan% of what it should compute on this GPU"),
        ((8, 9), 0.001, None),
    ],
)
def test_a_gpu_that_cannot_is_refused_in_one_sentence(
    capability: tuple[int, int],
    product: RuntimeError | float | None,
    sentence: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def error(device: object) -> float | None:
        if isinstance(product, RuntimeError):
            raise product
        return product

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    monkeypatch.setattr(fp8, "scaled_linear_error", error)
    if sentence is None:
        check_fp8(torch.device("cuda"))
        return
    with pytest.raises(UserError, match=sentence):
        check_fp8(torch.device("cuda"))
