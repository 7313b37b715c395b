"""What a comparison goes by: boxes or masks, from which IoU on, and regions from which score on."""

from __future__ import annotations

from dataclasses import dataclass

from pad_pipeline.ground_truth.entries import KINDS, Kind
from pad_pipeline.ground_truth.matching import IOUS


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `RULES`, perhaps for regions of at least a score alone.

    The index holds the matches of each under its number.
    """

    by: Kind
    iou: float
    least: float = 0.0

    @property
    def number(self) -> int:
        """Its place in `RULES`."""
        return RULES.index(Rule(self.by, self.iou))

    def rows_of(self, table: str) -> str:
        """The SQL of a table of the index, for the regions that count."""
        if self.least == 0 and table not in ("found_regions", "found_objects"):
            return table  # as counted when the index was made
        return f"{table}_at({self.least!r})"


RULES = tuple(Rule(by, iou) for by in KINDS for iou in IOUS)
