"""Precision and recall of matching pursuit in a case worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.evaluate.measures.pursuit_quality import PursuitMeter


def test_precision_and_recall_over_the_iterations() -> None:
    meter = PursuitMeter(3, known={1, 2, 3, 4})
    # a label of two tokens and one of one: 2 belongs to the first, 3 to the second
    meter.add([2, 9, 3], [[1, 2], [3]])
    meter.add([9, 8, 4], [[1]])  # 4 is a known word, but not this patch's
    meter.add([9, 9, 9], [[4]])
    assert meter.precision_K == pytest.approx([1 / 3, 1 / 2 / 3, 2 / 3 / 3])
    assert meter.recall_K == pytest.approx([1 / 2 / 3, 1 / 2 / 3, 1 / 3])
    assert meter.share_without_word == pytest.approx(1 / 3)


def test_without_a_labelled_patch_nothing_is_known() -> None:
    meter = PursuitMeter(2, known={1})
    assert np.isnan(meter.precision_K).all()
    assert np.isnan(meter.recall_K).all()
    assert np.isnan(meter.share_without_word)
