"""The parts of figures that all share."""

from __future__ import annotations

import numpy as np

from pad_pipeline.evaluate import figure_style


def test_borders_go_round_the_patches():
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    segments = {tuple(map(tuple, segment.tolist())) for segment in figure_style.borders(mask)}
    assert segments == {
        ((1, 1), (2, 1)), ((2, 1), (3, 1)), ((1, 2), (2, 2)), ((2, 2), (3, 2)),
        ((1, 1), (1, 2)), ((3, 1), (3, 2)),
    }  # fmt: skip
    assert len(figure_style.borders(np.ones((3, 4), bool))) == 14
    assert figure_style.borders(np.zeros((3, 4), bool)) == []
