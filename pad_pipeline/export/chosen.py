"""What of a data set an export writes: selected records with numbers that no selection changes."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa

from pad_pipeline.dataset.chooser import LEFT_OUT, Chooser
from pad_pipeline.dataset.reader import Dataset, iter_batches, iter_whole_records
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.progress import track
from pad_pipeline.records import PadRecord

WHOLE = "train"
"""The part in which everything lies where no split is asked for, as other programs want one."""

IN_PART = "images in "
"""Before a part's name, what counts its images."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One selected record.

    `number` counts the images of the whole data set from 1, `region_numbers` its regions, so that
    they are the same whatever is selected. `part` is the part of the split that it belongs to.
    """

    record: PadRecord
    number: int
    region_numbers: tuple[int, ...]
    part: str


@dataclass(frozen=True)
class Chosen:
    """A data set, what is chosen of it, and how it is split; `part` leaves one part alone.

    `together` gives images the id of another one, in whose part of the split they are.
    """

    dataset: Dataset
    chooser: Chooser
    options: ExportOptions = field(default_factory=ExportOptions)
    part: str | None = None
    together: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that are written."""
        if self.part is not None:
            return (self.part,)
        return tuple(self.options.shares) or (WHOLE,)

    def entries(self, counts: Counter[str], *, masks: bool = True) -> Iterator[Entry]:
        """The selected records that did not fail; counts "images", "regions", "failed" ones, the
        images in each part, and what the review leaves out."""
        shares, seed = self.options.shares, self.options.seed

        def dropped(_: PadRecord) -> None:
            counts[LEFT_OUT] += 1

        whole = iter_whole_records(self.dataset, masks=masks)
        tracked = track(whole, self.dataset.num_rows, "exporting images")
        for chosen in self.chooser.choose(tracked, dropped):
            record = chosen.record
            decisive = self.together.get(record.image_id, record.image_id)
            part = part_of(decisive, shares, seed) if shares else WHOLE
            if self.part is not None and part != self.part:
                continue
            if record.status == "failed":
                counts["failed"] += 1
                continue
            counts["images"] += 1
            counts["regions"] += len(record.labels)
            counts[f"regions {LEFT_OUT}"] += chosen.num_reviewed_out
            counts[IN_PART + part] += 1
            numbers = tuple(number + 1 for number in chosen.region_numbers)
            yield Entry(record, chosen.number + 1, numbers, part)

    def categories(self) -> dict[str, int]:
        """The tags of all regions of the data set, numbered from 1 by name; none is left out.

        Names that a review gave come behind those of the data set, whose numbers so stay the same.
        """
        names: set[str] = set()
        for _, batch in iter_batches(self.dataset, ["labels.list.element.tag"]):
            labels = batch.column("labels")
            assert isinstance(labels, pa.ListArray)
            names.update(labels.flatten().field("tag").unique().to_pylist())
        ordered = [*sorted(names), *sorted(self.chooser.new_tags - names)]
        return {name: number for number, name in enumerate(ordered, start=1)}


def part_of(image_id: str, shares: dict[str, float], seed: int) -> str:
    """The part of an image, by a checksum of its id: the same in every data set that has it."""
    digest = hashlib.blake2b(f"{seed}:{image_id}".encode("utf-8", "surrogatepass"), digest_size=8)
    place = int.from_bytes(digest.digest(), "big") / 2**64
    for name, end in zip(shares, accumulate(shares.values()), strict=True):
        if place < end:
            return name
    return list(shares)[-1]  # the shares' sum may fall short of 1 by rounding


def captions_of(record: PadRecord) -> dict[str, Any]:
    """The captions as a JSON object has them: `caption`, and `captions` where there are several."""
    found: dict[str, Any] = {}
    if record.caption is not None:
        found["caption"] = record.caption
    if record.captions is not None:
        found["captions"] = list(record.captions)
    return found


Box = tuple[float, float, float, float]


def clipped(box: Box, width: int, height: int, clip: bool) -> Box | None:
    """The box x0, y0, x1, y1, cut to the image if wanted; None where nothing of it lies inside.

    One that is not finite stays as it is, so that it is refused where it is written.
    """
    if not clip or not all(map(math.isfinite, box)):
        return box
    x0, x1 = (min(max(value, 0.0), float(width)) for value in (box[0], box[2]))
    y0, y1 = (min(max(value, 0.0), float(height)) for value in (box[1], box[3]))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
