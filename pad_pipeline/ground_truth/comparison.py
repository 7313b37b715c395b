"""A data set against a ground truth: reads both, pairs what belongs together, in batches."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.dataset.chooser import LEFT_OUT, Chooser
from pad_pipeline.dataset.reader import (
    Dataset,
    columns_without_masks,
    iter_batches,
    iter_whole_records,
    open_dataset,
)
from pad_pipeline.errors import UserError
from pad_pipeline.ground_truth.coco import GroundTruth
from pad_pipeline.ground_truth.entries import KINDS, Kind, Pair
from pad_pipeline.ground_truth.names import pair_images, pair_tags
from pad_pipeline.records import batch_to_records
from pad_pipeline.review.choice import ReviewChoice


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which image of the data set is which of the truth's, and which tag names which category.

    `truth` is without the images that the review leaves out, of which there are `num_left_out`.
    `place_of` is id in the data set -> place in `truth.images`. `left_out` counts the regions, in
    images that have a truth, of tags that name no category. `num_failed` images have a truth and
    failed: they have no regions, so all their objects are missed.
    """

    dataset: Dataset
    truth: GroundTruth
    place_of: dict[str, int]
    category_of: dict[str, int]
    left_out: Counter[str]
    num_regions: int
    num_failed: int
    num_left_out: int
    chooser: Chooser

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be compared: masks only where every object has one."""
        return KINDS if self.truth.has_masks else KINDS[:1]

    @property
    def num_objects(self) -> Counter[int]:
        """Of each category, crowds as well."""
        return Counter(found.category for image in self.truth.images for found in image.objects)

    def batches(self) -> Iterator[list[Pair]]:
        """All images that have a truth, in the data set's order, some hundred at a time."""
        columns = None if self.truth.has_masks else columns_without_masks()
        for _, rows in iter_batches(self.dataset, columns):
            chosen = [each in self.place_of for each in rows.column("image_id").to_pylist()]
            if not any(chosen):
                continue
            found = batch_to_records(rows.filter(pa.array(chosen)), masks=self.truth.has_masks)
            kept = [chosen.record for chosen in self.chooser.choose(found)]
            places = [self.place_of[record.image_id] for record in kept]
            yield [
                Pair(place, self.truth.images[place], record)
                for place, record in zip(places, kept, strict=True)
            ]


def compare_with_truth(
    annotations: str,
    truth: GroundTruth,
    match: str | None = None,
    review: ReviewChoice | None = None,
) -> Comparison:
    """Reads the data set's ids and tags, and pairs them with the truth's.

    Images belong together by path or file name, tags and categories by their names in lower case or
    by `match`, a JSON object of tag -> category. With `review` regions count and are called as it
    says, and images that it leaves out are left out of the truth too. Raises `UserError` where the
    truth has images that the data set lacks, where no tag names a category, and where the review
    leaves no image.
    """
    dataset = open_dataset(storage.absolute(annotations))
    failed: set[str] = set()
    ids: list[str] = []
    for _, batch in iter_batches(dataset, ["image_id", "status"]):
        ids += batch.column("image_id").to_pylist()
        is_failed = pc.equal(batch.column("status"), "failed")
        failed.update(batch.column("image_id").filter(is_failed).to_pylist())
    place_of = pair_images(ids, truth, annotations)
    chooser = Chooser(dataset.url, review=review)
    num_left_out = 0
    if review is not None and review.is_wanted:
        counts, kept = _reviewed_regions_by_tag(dataset, chooser, place_of)
        num_left_out = len(place_of) - len(kept)
        if not kept:
            raise UserError(f"all images that {truth.url} is of are {LEFT_OUT} in the review")
        truth = replace(truth, images=tuple(truth.images[place_of[each]] for each in kept))
        place_of = {image_id: place for place, image_id in enumerate(kept)}
    else:
        counts = _regions_by_tag(dataset, place_of)
    category_of = pair_tags(counts.keys(), truth.names, match)
    left_out = Counter({tag: n for tag, n in counts.items() if tag not in category_of})
    return Comparison(
        dataset,
        truth,
        place_of,
        category_of,
        left_out,
        counts.total() - left_out.total(),
        len(failed & place_of.keys()),
        num_left_out,
        chooser,
    )


def _regions_by_tag(dataset: Dataset, chosen: Collection[str]) -> Counter[str]:
    """How many regions the chosen images have of each tag."""
    counts: Counter[str] = Counter()
    for _, batch in iter_batches(dataset, ["image_id", "labels.list.element.tag"]):
        ids = batch.column("image_id").to_pylist()
        labels = batch.column("labels").filter(pa.array([each in chosen for each in ids]))
        for found in labels.flatten().field("tag").value_counts().to_pylist():
            counts[found["values"]] += found["counts"]
    return counts


def _reviewed_regions_by_tag(
    dataset: Dataset, chooser: Chooser, place_of: Mapping[str, int]
) -> tuple[Counter[str], list[str]]:
    """The same under a review; and which of the images it leaves, in the order of the truth."""
    counts: Counter[str] = Counter()
    kept = []
    for chosen in chooser.choose(iter_whole_records(dataset, masks=False)):
        if chosen.record.image_id in place_of:
            kept.append(chosen.record.image_id)
            counts.update(region.tag for region in chosen.record.labels)
    return counts, sorted(kept, key=place_of.__getitem__)
