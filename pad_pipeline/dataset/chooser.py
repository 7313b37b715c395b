"""Which records and regions of a data set a reader gets: first by a review, then by a selection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import plural
from pad_pipeline.records import PadRecord
from pad_pipeline.review.choice import ReviewChoice, Reviewed

logger = logging.getLogger(__name__)

LEFT_OUT = "rejected or not accepted"
"""The reason under which reports count records that a review leaves out."""
_NUM_NAMED = 3


@dataclass(frozen=True, slots=True)
class ChosenRecord:
    """A record as it is read, with the regions that are left.

    `number` is its place in the whole data set, `region_numbers` those of its regions among all of
    the data set; both from 0, and the same whatever is chosen. `num_reviewed_out` of its regions
    are left out by the review.
    """

    record: PadRecord
    number: int
    region_numbers: tuple[int, ...]
    num_reviewed_out: int


class Chooser:
    """Chooses among the records of one data set, as often as they are read."""

    def __init__(
        self, dataset: str, select: Selection | None = None, review: ReviewChoice | None = None
    ) -> None:
        """Reads the review that is wanted; raises `UserError` where that is not possible."""
        self._dataset = dataset
        self._select = select or Selection()
        self._reviewed = Reviewed(dataset, review) if review and review.is_wanted else None
        self._is_reported = False

    @property
    def new_tags(self) -> frozenset[str]:
        """Names that the review gives to regions."""
        return self._reviewed.new_tags if self._reviewed is not None else frozenset()

    def choose(
        self, records: Iterable[PadRecord], dropped: Callable[[PadRecord], None] | None = None
    ) -> Iterator[ChosenRecord]:
        """Of all records of the data set, in their order, those that are wanted.

        `dropped` is called with those that the review leaves out. Marks that fit nothing are logged
        when all were read, the first time.
        """
        reviewed, select = self._reviewed, self._select
        absent = set(reviewed.marks.images) if reviewed is not None else set()
        changed: list[str] = []
        num_regions = 0
        for number, whole in enumerate(records):
            first, num_regions = num_regions, num_regions + len(whole.labels)
            record, left = whole, range(len(whole.labels))
            if reviewed is not None:
                if whole.image_id in absent:
                    absent.remove(whole.image_id)
                    changed += reviewed.marks.images[whole.image_id].unmatched(whole)
                found = reviewed.apply(whole)
                if found is None:
                    if dropped is not None:
                        dropped(whole)
                    continue
                record, left = found
            passing = select.passing(record)
            record = select.apply(record, passing)
            if select.keeps(record):
                numbers = tuple(first + left[place] for place in passing)
                yield ChosenRecord(record, number, numbers, len(whole.labels) - len(left))
        if reviewed is not None and not self._is_reported:
            self._is_reported = True
            self._report(reviewed.url, changed, "that differ from what was marked")
            self._report(reviewed.url, sorted(absent), f"that {self._dataset} does not have")

    def _report(self, url: str, names: Sequence[str], why: str) -> None:
        if names:
            logger.warning(
                "not applied: marks of %s on %s %s, such as %s",
                url,
                plural(len(names), "region or image", "regions or images"),
                why,
                ", ".join(repr(name) for name in names[:_NUM_NAMED]),
            )
