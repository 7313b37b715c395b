"""Which region finds which object, by COCO's rule (pycocotools), and what the other regions are.

Regions and objects of one category are matched as COCOeval does it: the best score first, each
with the free object of highest IoU. What is left over is paired across categories in the same way,
so that an object which was found under another name is told from one that was not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pad_pipeline.ground_truth.curves import CurveMeter, Curves, Ranked, place_of_iou
from pad_pipeline.ground_truth.entries import Entry, Kind, Pair, entries_of, evaluate

IOUS = (0.5, 0.75)
"""For these it is told what every region and object is; the curves have all ten of COCO."""
RegionOutcome = Literal["found", "wrong tag", "found already", "no object", "ignored"]
ObjectOutcome = Literal["found", "wrong tag", "missed", "ignored"]
_TOGETHER = 8
"""Images: COCOeval looks at each with every category that any of them has."""


@dataclass(frozen=True, slots=True)
class RegionMatch:
    """What a region of an image is, from an IoU on, and the number of the object that it is for.

    A region has "found" an object of its tag; or has the "wrong tag" for one; or lies on one that
    was "found already"; or there is "no object". Regions on crowds, and those past the hundredth of
    an image and tag, are "ignored". `number` is the region's in its record.
    """

    place: int
    number: int
    iou: float
    outcome: RegionOutcome
    object: int | None


@dataclass(frozen=True, slots=True)
class ObjectMatch:
    """What became of an object of an image, from an IoU on, and the number of its region.

    Crowds are "ignored". `number` is the object's in its `TrueImage`.
    """

    place: int
    number: int
    iou: float
    outcome: ObjectOutcome
    region: int | None


Matches = tuple[list[RegionMatch], list[ObjectMatch]]


class Matcher:
    """Matches image by image, by boxes or by masks, and sums up."""

    def __init__(self, kind: Kind, category_of: Mapping[str, int]) -> None:
        """`category_of` is the category that a tag names; regions of other tags do not count."""
        self.kind: Kind = kind
        self.category_of = category_of
        self._meter = CurveMeter()

    def add(self, pairs: Sequence[Pair]) -> Matches:
        """What the regions and objects of these images are.

        Raises `UserError` where an image has another size in the truth, or a mask does not fit it.
        """
        found: Matches = ([], [])
        for start in range(0, len(pairs), _TOGETHER):
            regions, objects = self._add(pairs[start : start + _TOGETHER])
            found[0].extend(regions)
            found[1].extend(objects)
        return found

    def _add(self, pairs: Sequence[Pair]) -> Matches:
        images = [entries_of(pair, self.kind, self.category_of) for pair in pairs]
        objects, regions = ([each for image in images for each in image[n]] for n in (0, 1))
        results = evaluate(self.kind, objects, regions)
        self._meter.add(results)
        results_of: dict[int, list[Entry]] = {pair.place: [] for pair in pairs}
        for result in results:
            results_of[result["image_id"]].append(result)
        found: Matches = ([], [])
        for pair, image in zip(pairs, images, strict=True):
            for iou in IOUS:
                more = _match_image(pair.place, *image, results_of[pair.place], iou)
                found[0].extend(more[0])
                found[1].extend(more[1])
        return found

    def curves(self, categories: Sequence[int]) -> Curves:
        """Precision and recall of these categories over all that was added."""
        return self._meter.curves(categories)

    def ranked(self, categories: Sequence[int], num_images: int) -> list[Ranked]:
        """The regions of these categories with their images, of which the truth has so many."""
        return self._meter.ranked(categories, num_images)


def _match_image(
    place: int, objects: list[Entry], regions: list[Entry], results: list[Entry], iou: float
) -> Matches:
    at = place_of_iou(iou)
    region_of = {entry["id"]: entry for entry in regions}
    object_of = {entry["id"]: entry for entry in objects}
    outcomes: dict[int, tuple[RegionOutcome, int | None]] = {}
    fates: dict[int, tuple[ObjectOutcome, int | None]] = {}
    left: list[Entry] = []
    for result in results:
        matched, ignored = result["dtMatches"][at], result["dtIgnore"][at]
        for own, other, is_ignored in zip(result["dtIds"], matched, ignored, strict=True):
            if not other:
                left.append(region_of[own])
            else:
                number = object_of[int(other)]["number"]
                outcomes[own] = ("ignored" if is_ignored else "found", number)
        for own, other, is_ignored in zip(
            result["gtIds"], result["gtMatches"][at], result["gtIgnore"], strict=True
        ):
            if is_ignored:
                fates[own] = ("ignored", None)
            elif other:
                fates[own] = ("found", region_of[int(other)]["number"])
    left.sort(key=lambda entry: -entry["score"])
    overlaps = _overlaps(left, objects)
    for region, row in zip(left, overlaps, strict=True):
        near = [number for number in np.argsort(-row, kind="stable") if row[number] >= iou]
        free = [objects[n] for n in near if objects[n]["id"] not in fates]
        taken = [objects[n] for n in near if fates.get(objects[n]["id"], ("",))[0] != "ignored"]
        if free:
            fates[free[0]["id"]] = ("wrong tag", region["number"])
            outcomes[region["id"]] = ("wrong tag", free[0]["number"])
        elif taken:
            outcomes[region["id"]] = ("found already", taken[0]["number"])
        else:
            outcomes[region["id"]] = ("no object", None)
    return (
        [
            RegionMatch(place, entry["number"], iou, *outcomes.get(entry["id"], ("ignored", None)))
            for entry in regions
        ],
        [
            ObjectMatch(place, entry["number"], iou, *fates.get(entry["id"], ("missed", None)))
            for entry in objects
        ],
    )


def _overlaps(regions: list[Entry], objects: list[Entry]) -> NDArray[np.float64]:
    """(regions, objects) IoUs, of masks where they have some."""
    if not regions or not objects:
        return np.zeros((len(regions), len(objects)))
    shape = "segmentation" if "segmentation" in objects[0] else "bbox"
    first, second = ([entry[shape] for entry in entries] for entries in (regions, objects))
    return np.asarray(coco_mask.iou(first, second, [0] * len(objects)))
