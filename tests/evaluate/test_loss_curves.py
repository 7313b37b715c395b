"""Loss curves: what they show is read back from their artists and pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pad_pipeline.evaluate.loss_curves import loss_curves_figure
from tests.evaluate.figures import pixels, texts


def test_loss_curves_are_named_at_their_ends_in_panels():
    steps = range(100)
    curves = {
        "caption loss/caption_only": [(s, 3.0 - s / 100) for s in steps],
        "caption loss/patch_aligned": [(s, 3.1 - s / 100) for s in steps],
        "patch loss/patch_aligned": [(s, 1.0 - s / 200) for s in steps],
    }
    figure = loss_curves_figure(curves)
    assert len(figure.axes) == 2
    shown = texts(figure)
    assert "caption loss" in shown
    assert "patch aligned  0.5" in shown
    ends = [text for text in figure.axes[0].texts if "  " in text.get_text()]
    heights = sorted(text.xy[1] for text in ends)  # type: ignore[attr-defined]
    assert heights[1] - heights[0] > 0.07
    colour = {text.get_text().split("  ")[0]: text.get_color() for text in ends}
    assert figure.axes[1].texts[0].get_color() == colour["patch aligned"]
    pixels(figure)


def test_loss_curves_bear_gaps_few_points_and_none():
    figure = loss_curves_figure(
        {"a": [(0, 2.0), (1, math.nan), (2, 1.0)], "b": [(0, math.inf)], "c": [], "d": [(4, 3.0)]},
        title="Caption loss",
        unit="nats",
    )
    assert [line.get_marker() for line in figure.axes[0].lines] == ["o", "o"]
    assert "a  1" in texts(figure)
    assert "nats" in texts(figure)
    pixels(figure)
    assert "no values yet" in texts(loss_curves_figure({}))


def test_smoothing_keeps_a_constant_and_the_gaps():
    points = [(step, math.nan if 20 <= step < 23 else 2.0) for step in range(60)]
    raw, smooth = loss_curves_figure({"a": points}).axes[0].lines
    for line in (raw, smooth):
        values = np.asarray(line.get_ydata(), float)
        assert np.isnan(values).tolist() == [20 <= step < 23 for step in range(60)]
        assert values[~np.isnan(values)] == pytest.approx(2.0)
