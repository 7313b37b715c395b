"""The regions of an annotated data set for the images of conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.train.data.samples import TrainingSample


class RegionJoin:
    """Gives samples the regions of their images, by image id; holds those of a data set."""

    def __init__(self, dataset: str, review: ReviewChoice | None = None) -> None:
        """Read the regions of `dataset`, as `annotate` wrote it and by the marks on it."""
        self._dataset = dataset
        self._records = {
            record.image_id: record
            for record in iter_records(open_dataset(dataset), review=review)
            if record.status == "ok" and record.labels
        }
        self._num_images = self._num_found = 0
        self._first: str | None = None

    def add(self, samples: Iterable[TrainingSample]) -> Iterator[TrainingSample]:
        """The samples, those whose image is in the data set with its regions."""
        for sample in samples:
            if sample.image is None:
                yield sample
                continue
            self._num_images += 1
            self._first = self._first or sample.id
            record = self._records.get(sample.id)
            if record is None:
                yield sample
                continue
            self._num_found += 1
            yield replace(
                sample,
                width=record.width,
                height=record.height,
                tags=[region.tag for region in record.labels],
                masks=[region.rle_mask for region in record.labels],
            )

    def describe(self) -> str:
        """How many images have regions; raises `UserError` where none has."""
        if not self._num_found:
            known = next(iter(self._records), None)
            raise UserError(
                f"no image of the conversations has regions in {self._dataset}: its ids are like "
                f"{known!r}, theirs like {self._first!r}; annotate the same folder of images, or "
                "train without ",
                Setting("regions"),
            )
        return f"{self._num_found:,} of {self._num_images:,} images have regions"
