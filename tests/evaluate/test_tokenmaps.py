"""Tokenmaps: what they show is read back from their artists and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pad_pipeline.drawing.words import word_colours
from pad_pipeline.evaluate.tokenmaps import shown_piece, tokenmap_figure
from tests.evaluate.figures import IMAGE, pixels, texts


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
