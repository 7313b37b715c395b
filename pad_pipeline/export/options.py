"""How a data set is exported, beside what is selected of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import NotNegative, check_limits


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How an export is written."""

    images: str | None = None
    """Where the images are now, if not where they were annotated."""
    split: str | None = None
    """Parts and their shares, as `train=0.9,val=0.1`; an image's part depends on its id alone,
    near-duplicates are in one part where `embed` has found them."""
    seed: NotNegative = 0
    """Another seed splits otherwise."""
    clip: bool = True
    """Cut boxes to the image; the detector's may reach a little outside."""
    polygon_tolerance: Annotated[float, Ge(0)] = 0.5
    """How far a polygon may lie from its mask's outline, in pixels; 0 follows every pixel."""

    def __post_init__(self) -> None:
        check_limits(self)
        _ = self.shares

    @property
    def shares(self) -> dict[str, float]:
        """The shares of the parts by name, in their order; empty without a split."""
        if self.split is None:
            return {}
        found: dict[str, float] = {}
        for item in self.split.split(","):
            name, _, share = item.strip().partition("=")
            try:
                found[name] = float(share)
            except ValueError:
                found[name] = -1.0
        names_fit = all(name.replace("-", "").replace("_", "").isalnum() for name in found)
        shares_fit = all(share > 0 for share in found.values())
        if not names_fit or not shares_fit or abs(sum(found.values()) - 1) > 1e-6:
            raise UserError(
                Setting("split", self.split),
                " must name parts with shares that add up to 1, as train=0.9,val=0.1",
            )
        return found
