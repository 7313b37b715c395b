"""What the measures refuse to compute with: NaN, infinity, and widths that do not fit."""

from __future__ import annotations

from torch import Tensor

from pad_pipeline.errors import UserError

_AT_ONCE = 1 << 21
"""Numbers checked at a time, so that a whole vocabulary is never copied."""


def check_vectors(vectors: Tensor, what: str, width: int | None = None) -> None:
    """Raise `UserError` unless `vectors` is (N, D) of finite floating-point numbers.

    `what` names them in the message ("the projected tokens"); `width` is the D that they must have.
    """
    if vectors.ndim != 2 or not vectors.is_floating_point():
        raise UserError(
            f"{what} must be a table of floating-point vectors (number, width), but have the shape "
            f"{tuple(vectors.shape)} and the type {str(vectors.dtype).removeprefix('torch.')}"
        )
    if width is not None and vectors.shape[1] != width:
        raise UserError(
            f"{what} are {vectors.shape[1]} wide where {width} was expected: take both from the "
            "same model"
        )
    rows = max(1, _AT_ONCE // max(vectors.shape[1], 1))
    parts = vectors.split(rows)
    num_bad = sum(int((~part.isfinite()).any(dim=1).sum()) for part in parts)
    if num_bad:
        raise UserError(
            f"{num_bad:,} of {len(vectors):,} vectors of {what} hold NaN or infinity: the weights "
            "are broken or the numbers ran over, so take an earlier checkpoint or float32"
        )
