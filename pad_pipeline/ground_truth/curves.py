"""Precision and recall over all images, by COCO's rule, from what was matched image by image."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ALL_AREAS = [0.0, 1e5**2]
"""COCO's range of areas that leaves no object out."""


def place_of_iou(iou: float) -> int:
    """Where one of COCO's ten IoUs stands among them."""
    return round((iou - 0.5) / 0.05)


@dataclass(frozen=True, slots=True)
class Curves:
    """COCO's evaluation: T IoUs from .5 to .95 by .05, R recalls from 0 to 1 by .01, and K
    categories in the order of `categories`.

    `precision_TRK` and `recall_TK` are −1 for categories without an object to find.
    """

    categories: tuple[int, ...]
    precision_TRK: NDArray[np.float64]
    recall_TK: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """AP, AP50, AP75 and AR (of at most 100 regions an image and category); −1 for none."""
        return self._figures(slice(None))

    def of(self, category: int) -> dict[str, float]:
        """The same of one category."""
        return self._figures(slice(at := self.categories.index(category), at + 1))

    def precisions(self, category: int, iou: float = 0.5) -> NDArray[np.float64]:
        """(101,) precisions of a category at recalls from 0 to 1, at one of the IoUs."""
        return self.precision_TRK[place_of_iou(iou), :, self.categories.index(category)]

    def _figures(self, chosen: slice) -> dict[str, float]:
        precision, recall = self.precision_TRK[:, :, chosen], self.recall_TK[:, chosen]
        return {
            "AP": _mean(precision),
            "AP50": _mean(precision[0]),
            "AP75": _mean(precision[5]),
            "AR": _mean(recall),
        }


def _mean(values: NDArray[np.float64]) -> float:
    there = values[values > -1]
    return float(there.mean()) if there.size else -1.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """The D regions of a category, best first: their images, and what they are at each of T IoUs.

    Regions that COCO ignores are neither hits nor false. `objects_N` are the objects to find in
    each image.
    """

    image_D: NDArray[np.int64]
    is_hit_TD: NDArray[np.bool_]
    is_false_TD: NDArray[np.bool_]
    objects_N: NDArray[np.int64]


class CurveMeter:
    """Takes in COCO's results of images; memory grows by a few dozen bytes a region."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._num_objects: Counter[tuple[int, int]] = Counter()
        """By category and image."""

    def add(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Results of `COCOeval.evaluate`, each of one image and category."""
        for each in results:
            to_find = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
            self._num_objects[each["category_id"], each["image_id"]] += int(to_find)
        counts = [len(each["dtScores"]) for each in results]
        if not sum(counts):
            return
        self._parts.append(
            (
                np.repeat([each["category_id"] for each in results], counts),
                np.repeat([each["image_id"] for each in results], counts),
                np.concatenate([np.asarray(each["dtScores"], float) for each in results]),
                np.concatenate([each["dtMatches"].T > 0 for each in results]),
                np.concatenate([np.asarray(each["dtIgnore"], bool).T for each in results]),
            )
        )

    def curves(self, categories: Sequence[int]) -> Curves:
        """Of these categories, over all that was added."""
        whole = COCOeval(_nothing(), _nothing(), "bbox")
        whole.params.imgIds, whole.params.catIds = [0], sorted(categories)
        whole.params.areaRng, whole.params.areaRngLbl = [ALL_AREAS], ["all"]
        whole.params.maxDets = [2**31]  # they were cut image by image
        with contextlib.redirect_stdout(io.StringIO()):
            whole.evaluate()
            whole.evalImgs = cast(Any, self._of_each(whole.params.catIds))
            whole.accumulate()
        return Curves(
            tuple(whole.params.catIds),
            whole.eval["precision"][:, :, :, 0, 0],
            whole.eval["recall"][:, :, 0, 0],
        )

    def ranked(self, categories: Sequence[int], num_images: int) -> list[Ranked]:
        """What was added of each category, with the images numbered below `num_images`."""
        objects = {number: np.zeros(num_images, np.int64) for number in categories}
        for (category, image), count in self._num_objects.items():
            objects[category][image] = count
        found = []
        for number, (image_D, each) in zip(categories, self._rows(categories), strict=True):
            order = np.argsort(-each["dtScores"], kind="mergesort")
            hit, counts = each["dtMatches"][:, order], ~each["dtIgnore"][:, order]
            found.append(Ranked(image_D[order], hit & counts, ~hit & counts, objects[number]))
        return found

    def _of_each(self, categories: Sequence[int]) -> list[dict[str, Any]]:
        """All regions of each category, in the order of the images, as if of one image."""
        num_objects: Counter[int] = Counter()
        for (category, _), count in self._num_objects.items():
            num_objects[category] += count
        return [
            {**each, "gtIgnore": np.zeros(num_objects[number])}
            for number, (_, each) in zip(categories, self._rows(categories), strict=True)
        ]

    def _rows(self, categories: Sequence[int]) -> list[tuple[NDArray[np.int64], dict[str, Any]]]:
        """(images, results) of all regions of each category, in the order of the images."""
        if self._parts:
            category, image, score, matched, ignored = (
                np.concatenate(each) for each in zip(*self._parts, strict=True)
            )
        else:
            category = image = np.zeros(0, np.int64)
            score = np.zeros(0)
            matched = ignored = np.zeros((0, 10), bool)
        order = np.lexsort((image, category))  # stable: within an image as they were
        starts, ends = (np.searchsorted(category[order], categories, s) for s in ("left", "right"))
        return [
            (
                image[rows],
                {
                    "dtScores": score[rows],
                    "dtMatches": matched[rows].T,
                    "dtIgnore": ignored[rows].T,
                },
            )
            for rows in (order[start:end] for start, end in zip(starts, ends, strict=True))
        ]


def _nothing() -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        empty = COCO()
        empty.dataset = cast(Any, {"images": [], "annotations": [], "categories": []})
        empty.createIndex()
    return empty
