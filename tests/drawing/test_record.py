"""What is drawn: tints where the masks are, colours by tag, labels whole and apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pad_pipeline.drawing.colours import tag_colour
from pad_pipeline.drawing.record import draw_record
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
