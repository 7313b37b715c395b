"""The figures: what they show is read back from their artists and pixels."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from pad_pipeline.evaluate import figure_style
from pad_pipeline.evaluate.plots import align_figure, loss_curves_figure, png, tokenmap_figure
from pad_pipeline.evaluate.tokenmaps import shown_piece, word_colours

IMAGE = np.full((48, 64, 3), 200, np.uint8)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph only warns
        yield


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)


def texts(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    found += [text.get_text() for axes in figure.axes for text in axes.texts]
    return "\n".join(found)


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


def words_of(figure: Figure) -> list[PathCollection]:
    return [
        artist
        for axes in figure.axes
        for artist in axes.collections
        if isinstance(artist, PathCollection)
    ]


def test_tokenmap_sizes_words_by_similarity_and_colours_the_dictionary():
    words = [["▁dog", "▁Dog", "▁dog", "ierte"], ["▁cat", "▁dog", "中", "<0x0A>"]]
    similarities = torch.tensor([[0.8, 0.4, 0.1, 0.4], [0.3, 0.2, 0.1, -0.1]])
    figure = tokenmap_figure(IMAGE, 2, words, similarities, {"dog", "cat"})
    first, second = words_of(figure)
    heights = [np.ptp(np.asarray(path.vertices)[:, 1]) for path in first.get_paths()]
    assert heights[0] > heights[2] * 2
    fills = [to_hex(fill) for fill in np.asarray(first.get_facecolor())]
    assert fills[0] == fills[1] == fills[2] != "#000000"
    assert fills[3] == "#000000"
    others = [to_hex(fill) for fill in np.asarray(second.get_facecolor())]
    assert others[1] == fills[0]
    assert others[0] not in (fills[0], "#000000")
    assert others[2:] == ["#000000"] * 2
    for collection in (first, second):
        for place, path in enumerate(collection.get_paths()):
            row, column = divmod(place, 2)
            x, y = np.asarray(path.vertices).T
            assert column <= x.min() <= x.max() <= column + 1
            assert row <= y.min() <= y.max() <= row + 1
    assert "75% of the patches" in texts(figure)
    assert "iteration 2" in texts(figure)
    assert pixels(figure).std() > 5


def test_tokenmap_shows_each_iterations_cosines_on_one_scale():
    similarities = np.array([[0.9, 0.1, 0.2, 0.3, 0.4, 0.5], [0.1] * 6])
    figure = tokenmap_figure(IMAGE, (2, 3), [["a"] * 6, ["b"] * 6], similarities, set())
    maps = [
        image
        for axes in figure.axes
        for image in axes.get_images()
        if np.asarray(image.get_array()).shape == (2, 3)
    ]
    assert len(maps) == 2
    for drawn, expected in zip(maps, similarities, strict=True):
        assert np.asarray(drawn.get_array()).ravel().tolist() == expected.tolist()
        assert drawn.get_clim() == (0.0, 0.9)


def test_a_full_grid_of_long_and_strange_pieces_is_drawn():
    pieces = ["▁internationally", "▁", "\u200b", "\n\t", "🐶", "$x^2$", "ĠThe", "漢字", "", "�"]
    words = [[pieces[place % len(pieces)] for place in range(576)]]
    figure = tokenmap_figure(IMAGE, 24, words, np.zeros((1, 576)), {"the"})
    assert pixels(figure).shape[1] < 2400


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        ("▁dog", "dog"), ("Ġdog", "dog"), ("ing", "ing"), ("▁", "␣"), ("", "␣"), ("ĊĊ", "↵↵"),
        ("<0x0A>", "<0x0A>"), ("漢", "▯"), ("\x00", "▯"), ("▁ice▁cream", "ice cream"),
        ("$a$", "$a$"), ("ﬁ", "ﬁ"),
    ],
)  # fmt: skip
def test_pieces_as_they_are_drawn(piece: str, shown: str):
    assert shown_piece(piece) == shown


def test_colours_go_to_the_most_frequent_words():
    words = [[f"w{place}"] * (40 - place) for place in range(30)]
    colours = word_colours(words, {f"w{place}" for place in range(29)})
    hues = [colours[f"w{place}"] for place in range(16)]
    assert len(set(hues)) == 16
    assert {colours[f"w{place}"] for place in range(16, 29)}.isdisjoint(hues)
    assert "w29" not in colours


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
