"""Align figures: what they show is read back from their artists and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pad_pipeline.evaluate.align_figure import align_figure
from tests.evaluate.figures import IMAGE, pixels, texts


def test_align_figure_colours_hits_and_false_patches():
    covered = torch.tensor([True, True, False, False, False, False])
    predicted = torch.tensor([True, False, True, False, False, False])
    figure = align_figure(IMAGE, (2, 3), [("dog", covered, predicted, 1 / 3)])
    assert "dog" in texts(figure)
    assert "IoU 0.33" in texts(figure)
    _, truth, found = figure.axes
    canvas = pixels(figure)

    def colour(axes, row: int, column: int) -> np.ndarray:
        x, y = axes.transData.transform((column + 0.4, row + 0.4))
        return canvas[int(canvas.shape[0] - y), int(x)]

    def is_green(axes, row, column):
        red, green, blue = colour(axes, row, column)
        return green > red + 40 and green > blue

    def is_rose(axes, row, column):
        red, green, _ = colour(axes, row, column)
        return red > green + 40

    assert [is_green(truth, 0, column) for column in range(3)] == [True, True, False]
    assert [is_green(found, 0, column) for column in range(3)] == [True, False, False]
    assert [is_rose(found, 0, column) for column in range(3)] == [False, False, True]
    assert not any(is_green(found, 1, c) or is_rose(found, 1, c) for c in range(3))


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_align_figure_has_a_pair_per_region_and_keeps_the_images_shape(number: int):
    mask = np.zeros(12, bool)
    regions = [(f"$tag_{place} " + "x" * 60, mask, mask, 0.0) for place in range(number)]
    figure = align_figure(IMAGE, (3, 4), regions)
    assert len(figure.axes) == 1 + 2 * number
    height, width, _ = pixels(figure).shape
    assert width < 2400
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(64 / 48, rel=0.01)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
