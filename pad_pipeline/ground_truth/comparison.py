"""A data set against a ground truth: reads both, pairs what belongs together, in batches."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.dataset.reader import (
    Dataset,
    columns_without_masks,
    iter_batches,
    open_dataset,
)
from pad_pipeline.ground_truth.coco import GroundTruth, read_coco
from pad_pipeline.ground_truth.entries import KINDS, Kind, Pair
from pad_pipeline.ground_truth.names import pair_images, pair_tags
from pad_pipeline.records import batch_to_records


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which image of the data set is which of the truth's, and which tag names which category.

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
            places = [self.place_of[record.image_id] for record in found]
            yield [
                Pair(place, self.truth.images[place], record)
                for place, record in zip(places, found, strict=True)
            ]


def compare_with_truth(annotations: str, truth: str, match: str | None = None) -> Comparison:
    """Reads the truth, COCO's instances JSON, and the data set's ids and tags.

    Images belong together by path or file name, tags and categories by their names in lower case or
    by `match`, a JSON object of tag -> category. Raises `UserError` where the truth has images that
    the data set lacks, and where no tag names a category.
    """
    whole = read_coco(truth)
    dataset = open_dataset(storage.absolute(annotations))
    failed: set[str] = set()
    ids: list[str] = []
    for _, batch in iter_batches(dataset, ["image_id", "status"]):
        ids += batch.column("image_id").to_pylist()
        is_failed = pc.equal(batch.column("status"), "failed")
        failed.update(batch.column("image_id").filter(is_failed).to_pylist())
    place_of = pair_images(ids, whole, annotations)
    counts = _regions_by_tag(dataset, place_of)
    category_of = pair_tags(counts.keys(), whole.names, match)
    left_out = Counter({tag: n for tag, n in counts.items() if tag not in category_of})
    return Comparison(
        dataset,
        whole,
        place_of,
        category_of,
        left_out,
        counts.total() - left_out.total(),
        len(failed & place_of.keys()),
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
