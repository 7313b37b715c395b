"""The picture of a sample: what is tinted, what is written, and odd samples that it must stand."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from pad_pipeline.drawing.colours import tag_colour
from pad_pipeline.errors import UserError
from pad_pipeline.geometry import pad_square
from pad_pipeline.train.inspect import page, region_panel, token_panel
from pad_pipeline.train.inspect.picture import draw_sample

GREY = np.full((56, 56, 3), 128, dtype=np.uint8)


def squares(*corners: tuple[int, int]) -> np.ndarray:
    """(R, 16) coverage of a 4×4 grid: each region covers one patch, and a neighbour too little."""
    coverage = np.zeros((len(corners), 4, 4))
    for region, (row, column) in enumerate(corners):
        coverage[region, row, column] = 0.5
        coverage[region, row, (column + 1) % 4] = 0.4999
    return coverage.reshape(len(corners), 16)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws, and gives (picture HWC uint8, the texts on it with their matplotlib objects)."""
    figures: list[Any] = []
    figure_class = matplotlib.figure.Figure

    def remembered(*args, **kwargs):
        figures.append(figure_class(*args, **kwargs))
        return figures[-1]

    monkeypatch.setattr(matplotlib.figure, "Figure", remembered)

    def draw(frame, coverage, tags, tokens) -> tuple[np.ndarray, dict[str, Text]]:
        path = tmp_path / "sample.png"
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a glyph that the font lacks is a warning
            draw_sample(frame, coverage, tags, tokens, path)
        texts = {text.get_text(): text for text in figures[-1].findobj(Text)}
        return np.array(Image.open(path).convert("RGB")), texts

    return draw


def test_half_covered_patches_are_tinted_in_the_colour_of_their_tag(drawn):
    picture, texts = drawn(GREY, squares((0, 0), (3, 2)), ["dog", "cat"], [("a", True)])
    left, top, side = (
        round(page.DPI * length)
        for length in (
            page.MARGIN + page.PICTURE + page.GAP,
            page.MARGIN + page.TITLES,
            page.PICTURE,
        )
    )
    patches = picture[top : top + side, left : left + side]
    patch = side // 4

    def at(row: int, column: int) -> np.ndarray:  # beside the badge in the middle
        return patches[int((row + 0.2) * patch), int((column + 0.2) * patch)].astype(float)

    veiled = 0.65 * 128 + 0.35 * 255
    for row in range(4):
        for column in range(4):
            tag = {(0, 0): "dog", (3, 2): "cat"}.get((row, column))
            expected = np.full(3, veiled)
            if tag:
                expected = 0.45 * expected + 0.55 * np.array(tag_colour(tag))
            np.testing.assert_allclose(at(row, column), expected, atol=3, err_msg=f"{row} {column}")
    frame = picture[top : top + side, round(page.DPI * page.MARGIN) :][5:-5, 5 : side - 5]
    assert (frame == 128).all()
    assert {"dog", "cat", "4×4, 2 of 2 regions have one"} <= set(texts)


def test_supervised_tokens_are_bold_and_the_rest_is_not(drawn):
    tokens = [("<s>", False), ("▁a", False), ("▁dog", True), ("<0x0A>", True)]
    _, texts = drawn(GREY, squares((1, 1)), ["dog"], tokens)
    assert {name: texts[name].get_weight() for name in ("<s>", "▁a", "▁dog", "⏎")} == {
        "<s>": "normal",
        "▁a": "normal",
        "▁dog": "bold",
        "⏎": "bold",
    }
    assert texts["▁dog"].get_color() != texts["▁a"].get_color()
    assert "4 in all; the model learns to predict the 2 in green" in texts


def test_tokens_are_wrapped_inside_the_page(drawn):
    tokens = [(f"▁word{number}", number % 3 == 0) for number in range(150)]
    picture, texts = drawn(GREY, squares((1, 1)), ["dog"], tokens)
    renderer = texts["▁word0"].get_figure().canvas.get_renderer()  # type: ignore[union-attr]
    boxes = [texts[token].get_window_extent(renderer) for token, _ in tokens]
    assert len({round(box.y0) for box in boxes}) > 5
    assert min(box.x0 for box in boxes) > 0.4 * page.DPI
    assert max(box.x1 for box in boxes) < picture.shape[1] - 0.4 * page.DPI
    assert min(box.y0 for box in boxes) > 0
    for one, after in pairwise(boxes):
        assert after.x0 > one.x1 or after.y1 < one.y1  # to its right or below, never on it


def test_many_equal_tokens_become_one_with_their_number(drawn):
    tokens = [("<image>", False)] * 576 + [("▁a", True), ("▁a", True), ("▁a", False)]
    _, texts = drawn(GREY, squares((1, 1)), ["dog"], tokens)
    assert "<image> ×576" in texts
    rows = token_panel.wrap_tokens(tokens, 10.0)
    assert [text for row in rows for _, text, _ in row] == ["<image> ×576", "▁a", "▁a", "▁a"]
    assert "579 in all; the model learns to predict the 2 in green" in texts


def test_odd_text_is_shown_as_it_is(drawn):
    tokens = [("$5", True), ("$x^2$", True), ("Ġcosts", True), ("日", True), ("🐕", True)]
    tokens += [("x" * 500, False), ("", False), ("\\frac{", False), ("\ta\nb", False)]
    _, texts = drawn(GREY, squares((1, 1)), ["a $tag$ of 日 and many more words"], tokens)
    shown = {"$5", "$x^2$", "▁costs", "\\u65e5", "\\u1f415", "x" * 59 + "…", "\\frac{", "⇥a⏎b"}
    assert shown <= set(texts)
    assert any(text.startswith("a $tag$ of \\u65e5") for text in texts)


def test_regions_without_a_patch_and_samples_without_regions(drawn):
    nothing = np.full((1, 16), 0.49)
    _, texts = drawn(GREY, np.vstack([squares((2, 2)), nothing]), ["dog", "pin"], [("a", True)])
    assert "4×4, 1 of 2 regions have one" in texts
    assert texts["pin"].get_style() == "italic"
    assert texts["dog"].get_style() == "normal"
    _, texts = drawn(GREY, np.zeros((0, 16)), [], [])
    assert {"none", "0 in all; none is supervised"} <= set(texts)


def test_more_regions_than_the_legend_has_lines(drawn):
    corners = [(number % 4, number // 4 % 4) for number in range(40)]
    tags = [f"tag{number}" for number in range(40)]
    _, texts = drawn(GREY, squares(*corners), tags, [("a", True)])
    assert {"tag0", "tag15", "and 24 more"} <= set(texts)
    assert "tag16" not in texts


def test_an_outline_goes_once_around_what_is_covered():
    patches = np.zeros((3, 3), dtype=bool)
    patches[0, 0] = patches[0, 1] = True
    assert sorted(region_panel.outline(patches)) == [
        ((0, 0), (0, 1)),
        ((0, 0), (1, 0)),
        ((0, 1), (1, 1)),
        ((1, 0), (2, 0)),
        ((1, 1), (2, 1)),
        ((2, 0), (2, 1)),
    ]


def test_the_number_of_a_ring_stands_on_the_ring():
    ring = np.ones((5, 5), dtype=bool)
    ring[1:4, 1:4] = False
    x, y = region_panel.middle(ring)
    assert ring[y, x]


@pytest.mark.parametrize(
    ("coverage", "tags"),
    [
        (np.zeros((1, 15)), ["dog"]),
        (np.zeros((2, 16)), ["dog"]),
        (np.zeros(16), ["dog"]),
        (np.zeros((1, 0)), ["dog"]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(coverage, tags, tmp_path):
    with pytest.raises(ValueError, match="expected one row for each tag"):
        draw_sample(GREY, coverage, tags, [], tmp_path / "sample.png")


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UserError):
        draw_sample(GREY, squares((1, 1)), ["dog"], [("a", True)], blocked / "sample.png")


def test_a_real_geometry_and_a_folder_that_is_made(tmp_path: Path):
    place = pad_square(300, 200, 336)
    mask = np.zeros((200, 300), dtype=bool)
    mask[50:150, 100:200] = True
    frame = place.apply(np.full((200, 300, 3), 200, dtype=np.uint8))
    path = tmp_path / "new" / "sample.png"
    draw_sample(frame, place.coverage_many([mask], 24), ["thing"], [("a", True)], path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == round(page.WIDTH * page.DPI)
