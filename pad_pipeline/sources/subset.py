"""Some of a source's images: the first ones, a random sample, or those that a file names."""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from annotated_types import Ge

from pad_pipeline.errors import Setting, UserError, plural
from pad_pipeline.limits import check_limits
from pad_pipeline.sources.rows import ManifestRow
from pad_pipeline.storage.id_files import read_ids

logger = logging.getLogger(__name__)

_NUM_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Which images of a source are annotated; all of them by default."""

    limit: Annotated[int | None, Ge(1)] = None
    """Only the first so many images."""
    sample: Annotated[int | None, Ge(1)] = None
    """Only so many images from all over the source, the same ones every time."""
    ids: str | None = None
    """Only the images that a file names, an image id a line."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.limit is not None and self.sample is not None:
            raise UserError(
                "choose one of ", Setting("limit", self.limit), " and ", Setting("sample")
            )

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self == Subset()

    def choose(self, rows: Iterator[ManifestRow]) -> Iterator[ManifestRow]:
        """The chosen rows in their order, with memory for as many as a sample has.

        Warns of ids that the source does not have; raises `UserError` where none of them is there.
        """
        if self.ids is not None:
            rows = _named(rows, self.ids)
        if self.limit is not None:
            rows = islice(rows, self.limit)
        if self.sample is not None:
            places = heapq.nsmallest(self.sample, enumerate(rows), key=_random_place)
            rows = (row for _, row in sorted(places, key=lambda place: place[0]))
        return rows


def _random_place(numbered: tuple[int, ManifestRow]) -> bytes:
    """By the id alone, so that a sample of a grown source keeps most of its images."""
    name = numbered[1].image_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=8).digest()


def _named(rows: Iterator[ManifestRow], url: str) -> Iterator[ManifestRow]:
    wanted = read_ids(url)
    missing = set(wanted)
    for row in rows:
        if row.image_id in wanted:
            missing.discard(row.image_id)
            yield row
    if len(missing) == len(wanted):
        raise UserError(
            f"the source has none of the images that {url} names, such as {min(missing)!r}"
        )
    if missing:
        names = ", ".join(repr(name) for name in sorted(missing)[:_NUM_NAMED])
        logger.warning(
            "%s of %s not in the source, such as %s", plural(len(missing), "image"), url, names
        )
