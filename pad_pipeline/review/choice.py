"""What a review changes in the records that a reader gets: regions left out, tags renamed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.review.log import read_marks, review_url
from pad_pipeline.review.marks import ImageMarks, verdict_of
from pad_pipeline.review.renaming import rename_regions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReviewChoice:
    """Which marks of a review count; none by default. With any of these, renamed tags do."""

    only_accepted: bool = False
    """Only regions that were accepted in the viewer, by themselves or with their image."""
    without_rejected: bool = False
    """No regions and no images that were rejected in the viewer."""
    review: str | None = None
    """The viewer's file of marks, if not in the data set's folder; alone, it renames tags."""

    @property
    def is_wanted(self) -> bool:
        """Whether a review is read at all."""
        return self != ReviewChoice()


def review_facts(choice: ReviewChoice | None) -> dict[str, Any] | None:
    """What files keep of the marks that their figures are by; None where none count."""
    return asdict(choice) if choice is not None and choice.is_wanted else None


def mention_unused(dataset: str, choice: ReviewChoice | None) -> None:
    """Logs that a data set has marks where none of them is asked for."""
    if choice is not None and choice.is_wanted:
        return
    url = review_url(dataset, None)
    if storage.exists(url):
        logger.info(
            "the marks of %s are not applied: %s or %s does that",
            url,
            Setting("without_rejected", True),
            Setting("only_accepted", True),
        )


class Reviewed:
    """The review of a data set and what of it counts."""

    def __init__(self, dataset: str, choice: ReviewChoice) -> None:
        """Reads the review; raises `UserError` where there is none, or nothing is accepted."""
        self.url = review_url(dataset, choice.review)
        self._choice = choice
        self.marks = read_marks(self.url)
        if choice.only_accepted and not self.marks.counts["accepted"]:
            raise UserError(
                f"nothing is accepted in {self.url}: mark regions in `pad-pipeline view`, or use ",
                Setting("without_rejected", True),
            )

    @property
    def new_tags(self) -> frozenset[str]:
        """All names that regions were given."""
        return frozenset(
            tag for image in self.marks.images.values() for _, _, tag in image.new_tags
        )

    def apply(self, record: PadRecord) -> tuple[PadRecord, Sequence[int]] | None:
        """The record as the review has it and which of its regions are left; None without it.

        An "ok" record that loses all its regions becomes "empty".
        """
        image = self.marks.images.get(record.image_id, ImageMarks())
        of_image = verdict_of(image.verdict)
        if of_image == "rejected" and (self._choice.without_rejected or self._choice.only_accepted):
            return None
        marks = image.of_regions(record.labels)
        kept = [
            n for n, mark in enumerate(marks) if self._keeps(verdict_of(mark.verdict), of_image)
        ]
        if self._choice.only_accepted and not kept and of_image != "accepted":
            return None
        whole = rename_regions(record, marks)
        labels = tuple(whole.labels[number] for number in kept)
        status = "empty" if record.status == "ok" and not labels else record.status
        return replace(whole, labels=labels, status=status), kept

    def _keeps(self, verdict: str | None, of_image: str | None) -> bool:
        if self._choice.only_accepted:
            return (verdict or of_image) == "accepted"
        return not (self._choice.without_rejected and verdict == "rejected")
