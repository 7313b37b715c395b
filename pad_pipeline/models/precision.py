"""What 8-bit products need of a run's device and dtype, told before a model is loaded."""

from __future__ import annotations

from typing import Literal

from pad_pipeline.errors import Setting, UserError

Quantize = Literal["none", "fp8"]
"""What the linear layers of a segmenter's image encoder multiply in, if not in its dtype."""

ASKED = Setting("segment.quantize", "fp8")


def check_quantize(quantize: Quantize, device: str, dtype: str) -> None:
    """Raise `UserError` where a device or dtype cannot be combined with `quantize`."""
    if quantize == "none":
        return
    if device == "cpu":
        raise UserError(
            ASKED,
            " needs a GPU; on a CPU `pad-pipeline models compare-precision` shows what it would "
            "change",
        )
    if dtype != "bfloat16":
        raise UserError(ASKED, " needs ", Setting("dtype", "bfloat16"), f", not {dtype}")
