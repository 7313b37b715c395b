"""Which region finds which object, by COCO's rule (pycocotools), and what the other regions are.

Regions and objects of one category are matched as COCOeval does it: the best score first, each
with the free object of highest IoU. What is left over is paired across categories in the same way,
so that an object which was found under another name is told from one that was not found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pad_pipeline.ground_truth.curves import CurveMeter, Curves, Ranked, place_of_iou
from pad_pipeline.ground_truth.entries import Entry, Kind, Pair, entries_of, evaluate

IOUS = (0.5, 0.75)
"""For these it is told what every region and object is; the curves have all ten of COCO."""
RegionOutcome = Literal["found", "wrong tag", "found already", "no object", "ignored"]
ObjectOutcome = Literal["found", "wrong tag", "missed", "ignored"]
_Outcome = TypeVar("_Outcome", RegionOutcome, ObjectOutcome)
_ALL = -1.0
"""Below all scores."""
_TOGETHER = 8
"""Images: COCOeval looks at each with every category that any of them has."""


@dataclass(frozen=True, slots=True)
class RegionMatch:
    """What a region of an image is, from an IoU on, and the number of the object that it is for.

    A region has "found" an object of its tag; or has the "wrong tag" for one; or lies on one that
    was "found already"; or there is "no object". Regions on crowds, and those past the hundredth of
    an image and tag, are "ignored". `number` is the region's in its record.

    That holds where regions count from a score on that is over `above` and at most `up_to`: without
    regions of lower scores, another one may be for their objects. A region's own score is its last
    `up_to`, and `above` is -1 where all regions count.
    """

    place: int
    number: int
    iou: float
    outcome: RegionOutcome
    object: int | None
    above: float
    up_to: float


@dataclass(frozen=True, slots=True)
class ObjectMatch:
    """What became of an object of an image, from an IoU on, and the number of its region.

    Crowds are "ignored". `number` is the object's in its `TrueImage`. `above` and `up_to` are as in
    `RegionMatch`; the last `up_to` is infinite.
    """

    place: int
    number: int
    iou: float
    outcome: ObjectOutcome
    region: int | None
    above: float
    up_to: float


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
    of_regions: dict[int, _Pieces[RegionOutcome]] = {e["id"]: _Pieces() for e in regions}
    of_objects: dict[int, _Pieces[ObjectOutcome]] = {e["id"]: _Pieces() for e in objects}
    left: list[Entry] = []
    finder_of: dict[int, Entry | None] = {}
    """The region of each object that was found, by COCO's rule; None for one that is ignored."""
    for result in results:
        matched, ignored = result["dtMatches"][at], result["dtIgnore"][at]
        for own, other, is_ignored in zip(result["dtIds"], matched, ignored, strict=True):
            if not other:
                left.append(region_of[own])
            else:
                number = object_of[int(other)]["number"]
                outcome = "ignored" if is_ignored else "found"
                of_regions[own].add(outcome, number, region_of[own]["score"])
        for own, other, is_ignored in zip(
            result["gtIds"], result["gtMatches"][at], result["gtIgnore"], strict=True
        ):
            if is_ignored:
                finder_of[own] = None
                of_objects[own].add("ignored", None, math.inf)
            elif other:
                finder = finder_of[own] = region_of[int(other)]
                of_objects[own].add("found", finder["number"], finder["score"])
    left.sort(key=lambda entry: -entry["score"])
    near = _near(left, objects, iou)
    for low, high in pairwise([_ALL, *_scores_that_matter(left, near, finder_of), math.inf]):
        taken = {own for own, by in finder_of.items() if by is None or by["score"] > low}
        for region, close in zip(left, near, strict=True):
            if region["score"] <= low:
                break
            until = min(high, region["score"])
            free = [each for each in close if each["id"] not in taken]
            known = [each for each in close if finder_of.get(each["id"], region) is not None]
            if free:
                taken.add(free[0]["id"])
                of_objects[free[0]["id"]].add("wrong tag", region["number"], until, after=low)
                of_regions[region["id"]].add("wrong tag", free[0]["number"], until)
            elif known:
                of_regions[region["id"]].add("found already", known[0]["number"], until)
            else:
                of_regions[region["id"]].add("no object", None, until)
    return (
        [
            RegionMatch(place, entry["number"], iou, *piece)
            for entry in regions
            for piece in of_regions[entry["id"]].whole("ignored", entry["score"])
        ],
        [
            ObjectMatch(place, entry["number"], iou, *piece)
            for entry in objects
            for piece in of_objects[entry["id"]].whole("missed", math.inf)
        ],
    )


class _Pieces(Generic[_Outcome]):
    """Outcomes of one region or object, from the lowest least score of regions to the highest."""

    def __init__(self) -> None:
        self._found: list[tuple[_Outcome, int | None, float, float]] = []

    def add(
        self, outcome: _Outcome, partner: int | None, up_to: float, after: float | None = None
    ) -> None:
        """What holds from the last piece, or from `after`, to a score."""
        end = self._found[-1][3] if self._found else _ALL
        above = end if after is None else max(after, end)
        if self._found and above == end and self._found[-1][:2] == (outcome, partner):
            above = self._found.pop()[2]
        self._found.append((outcome, partner, above, up_to))

    def whole(
        self, otherwise: _Outcome, up_to: float
    ) -> Iterator[tuple[_Outcome, int | None, float, float]]:
        """All pieces to a score, with `otherwise` between and behind those that were added."""
        end = _ALL
        for piece in self._found:
            if piece[2] > end:
                yield otherwise, None, end, piece[2]
            yield piece
            end = piece[3]
        if end < up_to:
            yield otherwise, None, end, up_to


def _scores_that_matter(
    left: Sequence[Entry], near: Sequence[Sequence[Entry]], finder_of: Mapping[int, Entry | None]
) -> list[float]:
    """Scores of regions whose object is then for another region, of a higher score."""
    scores = set()
    for region, close in zip(left, near, strict=True):
        for each in close:
            finder = finder_of.get(each["id"])
            if finder is not None and finder["score"] < region["score"]:
                scores.add(finder["score"])
    return sorted(scores)


def _near(regions: list[Entry], objects: list[Entry], iou: float) -> list[list[Entry]]:
    """The objects of at least an IoU with each region, the nearest first."""
    return [
        [objects[place] for place in np.argsort(-row, kind="stable") if row[place] >= iou]
        for row in _overlaps(regions, objects)
    ]


def _overlaps(regions: list[Entry], objects: list[Entry]) -> NDArray[np.float64]:
    """(regions, objects) IoUs, of masks where they have some."""
    if not regions or not objects:
        return np.zeros((len(regions), len(objects)))
    shape = "segmentation" if "segmentation" in objects[0] else "bbox"
    first, second = ([entry[shape] for entry in entries] for entries in (regions, objects))
    return np.asarray(coco_mask.iou(first, second, [0] * len(objects)))
