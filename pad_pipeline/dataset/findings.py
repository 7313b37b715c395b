"""What a validation finds: problems with their place, a bounded list of each kind, exact counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

MAX_LISTED_PER_KIND = 20
"""So that a thousand problems of one kind do not bury the one of another."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, where it is ("" where that does not apply), and what."""

    kind: str
    shard: str
    image_id: str
    message: str

    def __str__(self) -> str:
        place = " ".join(part for part in (self.shard, self.image_id) if part)
        return f"{place}: {self.message}" if place else self.message


@dataclass
class Findings:
    """Collects problems of one severity: `listed` keeps the first of each kind, `counts` all."""

    listed: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, message: str, shard: str = "", image_id: str = "") -> None:
        """Counts one problem and lists it while there is room for its kind."""
        self.counts[kind] += 1
        if self.counts[kind] <= MAX_LISTED_PER_KIND:
            self.listed.append(Problem(kind, shard, image_id, message))


@dataclass
class Tally:
    """What is summed over the whole data set while its rows go by."""

    ids: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    num_regions: int = 0
    num_masks: int = 0
    """Masks that have pixels, and a sound box to lie in."""
    num_masks_off: int = 0
    mask_pixels: int = 0
    mask_pixels_inside: int = 0
