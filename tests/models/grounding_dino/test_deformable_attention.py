"""Without its Triton kernel deformable attention falls back to torch."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pad_pipeline.models import kernel_trial
from pad_pipeline.models.grounding_dino import deformable_attention


@pytest.mark.parametrize("fault", [RuntimeError("Failed to find C compiler"), None])
def test_without_its_kernel_the_detector_says_so_and_goes_on(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def sample_points(values: Any, *arguments: Any) -> torch.Tensor:
        if fault is not None:
            raise fault
        return torch.ones(1, 1, 8)

    kernels = SimpleNamespace(sample_points=sample_points)
    monkeypatch.setitem(
        sys.modules, "pad_pipeline.models.grounding_dino.deformable_triton", kernels
    )
    monkeypatch.setattr(kernel_trial, "_works", {})
    assert deformable_attention.try_deformable_kernel("cpu") is (fault is None)
    assert ("Failed to find C compiler" in caplog.text) is (fault is not None)
