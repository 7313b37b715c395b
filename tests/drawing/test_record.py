"""What is drawn: tints where the masks are, colours by tag, labels whole and apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline.drawing.colours import oklch_to_rgb, tag_colour
from pad_pipeline.drawing.contact_sheet import contact_sheet, wrap
from pad_pipeline.drawing.labels import place_labels
from pad_pipeline.drawing.record import draw_record, elide, load_font
from pad_pipeline.errors import UserError
from tests.dataset.example import HEIGHT, WIDTH, ellipse, record, region

GREY = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
MASK = ellipse(20, 15, 12, 9)


def changed(picture, image=GREY) -> np.ndarray:
    return (np.abs(np.asarray(picture).astype(int) - image).max(axis=2)) > 2


def test_without_regions_the_image_is_itself():
    picture = draw_record(GREY, record(0), scale=1)
    assert (np.asarray(picture) == GREY).all()


def test_the_tint_is_the_tags_colour_where_the_mask_is():
    one = record(0, [region("apple", MASK)])
    picture = np.asarray(
        draw_record(GREY, one, scale=1, opacity=0.5, boxes=False, labels=False)
    ).astype(int)
    assert (changed(picture) & ~ellipse(20, 15, 15, 12)).sum() == 0
    inner = ellipse(20, 15, 6, 4)
    wanted = np.rint((128 + np.array(tag_colour("apple"))) / 2)
    assert np.abs(picture[inner] - wanted).max() <= 1
    # The rim is nearer the pure colour than the tint is.
    rim = picture[15, 9]
    assert np.abs(rim - tag_colour("apple")).sum() < np.abs(wanted - tag_colour("apple")).sum()


def test_an_enlarged_mask_keeps_its_place_and_size():
    one = record(0, [region("apple", MASK)])
    plain = np.asarray(draw_record(GREY, record(0), scale=6, boxes=False, labels=False))
    picture = draw_record(GREY, one, scale=6, opacity=1, boxes=False, labels=False)
    assert picture.size == (6 * WIDTH, 6 * HEIGHT)
    tinted = np.abs(np.asarray(picture).astype(int) - tag_colour("apple")).max(axis=2) < 40
    large = np.kron(MASK, np.ones((6, 6), bool))
    assert (tinted & large).sum() / (tinted | large).sum() > 0.95
    assert changed(picture, plain).sum() > 0


def test_small_regions_lie_over_large_ones():
    small = region("tree", ellipse(20, 15, 4, 4))
    large = region("apple", MASK)
    pictures = [
        np.asarray(draw_record(GREY, record(0, labels), scale=4, opacity=0.5, labels=False))
        for labels in ([small, large], [large, small])
    ]
    assert (pictures[0] == pictures[1]).all()
    distance = {
        tag: np.abs(pictures[0][60, 80].astype(int) - tag_colour(tag)).sum()
        for tag in ("tree", "apple")
    }
    assert distance["tree"] < distance["apple"]


def test_boxes_and_labels_are_drawn_when_wanted():
    one = record(0, [region("apple", MASK)])
    bare = draw_record(GREY, one, scale=4, boxes=False, labels=False)
    boxed = draw_record(GREY, one, scale=4, labels=False)
    full = draw_record(GREY, one, scale=4)
    corner = (np.array([8, 6]) * 4) + [0, 40]  # on the box's left side
    assert changed(boxed, np.asarray(bare).astype(int))[corner[1] - 10, corner[0]]
    dark = np.asarray(full).max(axis=2) < 60
    assert dark.sum() > 200
    assert not (np.asarray(boxed).max(axis=2) < 60).any()


def test_small_images_are_enlarged_and_large_ones_are_not():
    assert min(draw_record(GREY, record(0)).size) >= 240
    big = np.zeros((900, 1200, 3), dtype=np.uint8)
    assert draw_record(big, record(0, width=1200, height=900)).size == (1200, 900)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_odd_shapes_can_be_drawn(size):
    height, width = size
    mask = np.ones(size, dtype=bool)
    one = record(0, [region("a long tag for such a picture", mask)], width=width, height=height)
    draw_record(np.zeros((height, width, 3), dtype=np.uint8), one)


def test_damaged_boxes_do_not_stop_the_drawing():
    for box in ((np.nan, 0.0, 9.0, 9.0), (30.0, 20.0, 2.0, 1.0), (-1e9, -9.0, 1e9, np.inf)):
        one = record(0, [replace(region("apple", MASK), bbox=box)])
        draw_record(GREY, one)


def test_another_image_is_refused():
    with pytest.raises(UserError, match="40x30 pixels, but the image has 30x40"):
        draw_record(GREY.transpose(1, 0, 2), record(0))
    broken = replace(region("apple", MASK), rle_mask="0S")
    with pytest.raises(UserError, match=r"the mask of 'apple' in .* cannot be drawn"):
        draw_record(GREY, record(0, [broken]))


def test_colours_are_stable_and_bright_enough():
    # Fixed by the checksum: another colour for a tag would change every picture made before.
    assert tag_colour("apple") == tag_colour(" Apple ") == (169, 199, 23)
    colours = {tag_colour(f"tag {number}") for number in range(500)}
    assert len(colours) == 48
    for red, green, blue in colours:
        assert 80 < 0.2126 * red + 0.7152 * green + 0.0722 * blue < 235


def test_oklch_of_known_colours():
    # From Ottosson's definition: white, mid grey and sRGB red.
    assert oklch_to_rgb(1.0, 0.0, 0.0) == (255, 255, 255)
    assert oklch_to_rgb(0.5999, 0.0, 0.0) == (128, 128, 128)
    assert np.abs(np.subtract(oklch_to_rgb(0.6279, 0.2577, 29.23), (255, 0, 0))).max() <= 2


boxes = st.tuples(*[st.floats(0, 300)] * 4).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, st.floats(10, 300), st.floats(8, 30)), max_size=8))
def test_labels_are_never_clipped(things):
    sizes = [(w, h) for _, w, h in things]
    placed = place_labels([box for box, _, _ in things], sizes, 300, 300)
    for (x0, y0, x1, y1), (w, h) in zip(placed, sizes, strict=True):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 300 + 1e-6
        assert y1 <= 300 + 1e-6
        assert (x1 - x0, y1 - y0) == (pytest.approx(w), pytest.approx(h))


@pytest.mark.parametrize(
    "things",
    [
        [(40.0, 40.0, 200.0, 200.0)] * 6,
        [(0.0, 0.0, 300.0, 300.0)] * 8,
        [(10.0 * i, 10.0 * i, 100.0 + 10 * i, 90.0 + 10 * i) for i in range(8)],
        [(0.0, 280.0, 40.0, 300.0), (10.0, 285.0, 50.0, 300.0), (260.0, 0.0, 300.0, 20.0)],
    ],
)
def test_labels_do_not_lie_on_each_other_where_there_is_room(things):
    placed = place_labels(things, [(80.0, 18.0)] * len(things), 300, 300)
    for a, b in combinations(placed, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (a, b)


def test_text_that_is_too_long_ends_in_an_ellipsis():
    font = load_font(14)
    text = "a caption that is far too long for its picture"
    short = elide(text, font, 120)
    assert short.endswith("…")
    assert font.getlength(short) <= 120
    assert elide("apple", font, 120) == "apple"
    lines = wrap(text, font, 100, 2)
    assert len(lines) == 2
    assert all(font.getlength(line) <= 100 for line in lines)
    assert lines[1].endswith("…")
    assert " ".join(wrap(text, font, 100, 9)) == text
    assert wrap("", font, 100, 2) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_a_contact_sheet_fills_its_width_with_every_picture(count):
    sizes = [(192, 256), (224, 224), (168, 288), (256, 192)]
    items = []
    for number in range(count):
        height, width = sizes[number % 4]
        mask = ellipse(width / 2, height / 2, 50, 40, width, height)
        one = record(number, [region("apple", mask)], width=width, height=height)
        items.append((np.full((height, width, 3), 20 + 15 * number, np.uint8), one))
    sheet = contact_sheet(items, columns=3, cell=200)
    pixels = np.asarray(sheet)
    margin = round(200 / 11)
    assert sheet.width == 3 * 200 + 2 * round(200 / 18) + 2 * margin
    assert np.ptp(pixels[: margin // 3], axis=(0, 1)).max() <= 12
    for number in range(count):
        assert (pixels == 20 + 15 * number).all(axis=2).sum() > 2000
    if count > 2:
        paper = (np.abs(pixels.astype(int) - pixels[0, 0]).max(axis=2) <= 30).all(axis=0)
        used = np.flatnonzero(~paper)
        assert abs(used[0] - margin) <= 1
        assert abs(used[-1] + 1 - (sheet.width - margin)) <= 1


def test_an_empty_or_tiny_contact_sheet_is_refused():
    with pytest.raises(UserError, match="no image"):
        contact_sheet([])
    with pytest.raises(UserError, match="at least 64 pixels, found 3 of 9"):
        contact_sheet([(GREY, record(0))], columns=3, cell=9)
