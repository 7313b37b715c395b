"""What a comparison goes by: boxes or masks, and the IoU from which on a region finds an object."""

from __future__ import annotations

from dataclasses import dataclass

from pad_pipeline.ground_truth.entries import KINDS, Kind
from pad_pipeline.ground_truth.matching import IOUS


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `RULES`; the index holds the matches of each under its number."""

    by: Kind
    iou: float

    @property
    def number(self) -> int:
        """Its place in `RULES`."""
        return RULES.index(self)


RULES = tuple(Rule(by, iou) for by in KINDS for iou in IOUS)
