"""COCO's figures of detections for images drawn again: intervals and paired comparisons.

Legend: N images of the truth, R resamplings, T IoUs, D regions of a category, best first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate.scoring.scores import Metric, Scores, divide
from pad_pipeline.ground_truth.curves import Ranked

_PLACES = {"AP50": 0, "AP75": 5}
"""Of these figures among COCO's ten IoUs; AP and AR are means over all."""
_FIGURES = ("AP", *_PLACES, "AR")
_RECALLS = np.linspace(0, 1, 101)
_LARGEST = 4_000_000
"""Numbers of one kind that are held at a time."""

Figures = dict[str, NDArray[np.float64]]
"""(R,) of each of `_FIGURES`."""


def detection_scores(ranked: Mapping[str, Sequence[Ranked]], values: Mapping[str, float]) -> Scores:
    """The figures by name, which are `values`, of regions ranked by boxes ("") and masks ("mask_").

    `per_sample` is the F1 of an image's boxes at an IoU of .5, all categories together; NaN where
    it has neither objects nor regions.
    """
    metrics: dict[str, Metric] = {}
    for prefix, categories in ranked.items():
        figures = _Resampled(categories)
        for name in _FIGURES:
            value = values[prefix + name]
            metrics[prefix + name] = Metric(
                value if value >= 0 else math.nan, partial(figures.of, name)
            )
    return Scores(main="F1", metrics=metrics, per_sample={"F1": image_f1(ranked[""])})


def image_f1(categories: Sequence[Ranked]) -> NDArray[np.float64]:
    """(N,) the F1 of each image at an IoU of .5, of all categories together."""
    objects_N = np.sum([each.objects_N for each in categories], axis=0)
    hits, false = np.zeros((2, len(objects_N)))
    for each in categories:
        hits += np.bincount(each.image_D[each.is_hit_TD[0]], minlength=len(hits))
        false += np.bincount(each.image_D[each.is_false_TD[0]], minlength=len(hits))
    return divide(2 * hits, hits + false + objects_N)


class _Resampled:
    """COCO's figures of a draw of images; of the last draws they are kept."""

    def __init__(self, categories: Sequence[Ranked]) -> None:
        self._categories = [each for each in categories if each.objects_N.any()]
        self._last: tuple[NDArray[np.int64], Figures] | None = None

    def of(self, name: str, draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R,) one of `_FIGURES`; NaN where no drawn image has an object."""
        if self._last is None or self._last[0] is not draws_RN:
            self._last = draws_RN, self._figures(draws_RN)
        return self._last[1][name]

    def _figures(self, draws_RN: NDArray[np.int64]) -> Figures:
        sums = {name: np.zeros(len(draws_RN)) for name in _FIGURES}
        present = np.zeros(len(draws_RN))
        for ranked in self._categories:
            objects_R = draws_RN @ ranked.objects_N
            present += objects_R > 0
            step = max(1, _LARGEST // max(1, len(ranked.image_D)))
            for start in range(0, len(draws_RN), step):
                part = slice(start, start + step)
                found = self._of_category(ranked, draws_RN[part], objects_R[part])
                for name, values in found.items():
                    sums[name][part] += values
        return {name: divide(values, present) for name, values in sums.items()}

    def _of_category(
        self, ranked: Ranked, draws_RN: NDArray[np.int64], objects_R: NDArray[np.int64]
    ) -> Figures:
        """The figures of a category; 0 where no drawn image has an object of it."""
        drawn_RD = draws_RN[:, ranked.image_D]
        thresholds = range(len(ranked.is_hit_TD))
        precisions, recalls = np.zeros((2, len(thresholds), len(draws_RN)))
        for number in thresholds:
            hits_RD = (drawn_RD * ranked.is_hit_TD[number]).cumsum(1, dtype=np.float64)
            false_RD = (drawn_RD * ranked.is_false_TD[number]).cumsum(1, dtype=np.float64)
            precision_RD = hits_RD / np.maximum(hits_RD + false_RD, 1)
            best_RD = np.maximum.accumulate(precision_RD[:, ::-1], 1)[:, ::-1]
            for row in np.flatnonzero(objects_R):
                recall_D = hits_RD[row] / objects_R[row]
                places = np.searchsorted(recall_D, _RECALLS)
                reached = places[places < len(recall_D)]
                precisions[number, row] = best_RD[row, reached].sum() / len(_RECALLS)
                recalls[number, row] = recall_D[-1] if len(recall_D) else 0
        return {
            "AP": precisions.mean(0),
            **{name: precisions[number] for name, number in _PLACES.items()},
            "AR": recalls.mean(0),
        }
