"""Geometry: pixels and boxes against CLIP's, LLaVA's, SAM's processors and golden numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from pad_pipeline import geometry as module
from pad_pipeline.geometry import Kind, center_crop, geometry, longest_side, pad_square, squash
from tests.golden_data import golden_dir

KINDS: tuple[Kind, ...] = ("squash", "longest-side", "crop", "pad")
kinds = st.sampled_from(KINDS)
sides = st.integers(1, 120) | st.sampled_from([1, 2, 3, 335, 336, 337])
frames = st.sampled_from([14, 56, 96])
seeds = st.integers(0, 2**32 - 1)


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise: every pixel of the frame then depends on every weight of the filter."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def processed(processor: Any, image: np.ndarray) -> np.ndarray:
    """What a transformers processor makes before it rescales and normalises, HWC uint8."""
    # As a Pillow image: an array of height 1 or 3 would be taken for channels-first.
    done = processor(Image.fromarray(image), do_rescale=False, do_normalize=False)
    return np.asarray(done["pixel_values"][0]).transpose(1, 2, 0)


# ---------------------------------------------------------------- golden numbers


def golden_geometry() -> dict[str, Any]:
    return json.loads((golden_dir("image_geometry") / "geometry.json").read_text())


def test_golden_integers_and_affines():
    golden = golden_geometry()
    assert golden["images"]
    for image in golden["images"]:
        width, height = image["size_wh"]
        crop, pad = (geometry(kind, width, height, golden["frame"]) for kind in ("crop", "pad"))
        for made, expected in ((crop, image["crop"]), (pad, image["pad"])):
            assert [made.x.scale, made.y.scale] == pytest.approx(expected["scale_xy"], abs=1e-12)
            assert [made.x.offset, made.y.offset] == pytest.approx(expected["offset_xy"], abs=1e-12)
        assert [crop.x.resized, crop.y.resized] == image["crop"]["resized_wh"]
        assert [crop.x.crop, crop.y.crop] == [image["crop"][f"crop_{k}"] for k in ("left", "top")]
        assert {pad.x.canvas, pad.y.canvas} == {image["pad"]["square_side"]}
        assert [pad.x.pad, pad.y.pad] == [image["pad"][f"pad_{k}"] for k in ("left", "top")]


def test_golden_photos_bit_for_bit():
    folder = golden_dir("image_geometry")
    mismatches, size = [], golden_geometry()["frame"]
    photos = json.loads((folder / "photos.json").read_text())
    for case in photos:
        image = np.array(Image.open(folder / case["image"]).convert("RGB"))
        width, height = case["size_wh"]
        for kind in ("crop", "pad"):
            frame = geometry(kind, width, height, size).apply(image)
            if not np.array_equal(frame, np.array(Image.open(folder / case[kind]))):
                mismatches.append((case["image"], kind))
            channel, row, column = np.array(case["normalised_at_channel_row_column"]).T
            mean, std = np.array(case["mean"])[channel], np.array(case["std"])[channel]
            normalised = (frame[row, column, channel] / 255 - mean) / std
            np.testing.assert_allclose(normalised, case[f"normalised_{kind}"], atol=1e-5)
    assert photos
    assert mismatches == []


# ---------------------------------------------------------------- pixels


@settings(max_examples=60, deadline=None)
@given(sides, sides, frames, seeds)
@example(640, 427, 336, 0)
@example(341, 343, 336, 0)
@example(1, 1, 336, 0)
def test_crop_equals_the_clip_processor(width, height, size, seed):
    image = photo(width, height, seed)
    clip = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    assert np.array_equal(center_crop(width, height, size).apply(image), processed(clip, image))


@settings(max_examples=60, deadline=None)
@given(sides, sides, frames, seeds)
@example(427, 640, 336, 0)
@example(50, 3, 336, 0)
def test_pad_equals_llavas_processor(width, height, size, seed):
    image = photo(width, height, seed)
    llava = LlavaImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_pad=True
    )
    assert np.array_equal(pad_square(width, height, size).apply(image), processed(llava, image))


@settings(max_examples=40, deadline=None)
@given(sides, sides, frames, seeds)
@example(683, 1024, 256, 0)
def test_longest_side_equals_sams_processor(width, height, size, seed):
    image = photo(width, height, seed)
    if round(min(width, height) * size / max(width, height) + 1e-9) < 1:
        return  # the original fails where a side is rounded to 0
    sam = SamImageProcessorPil(size={"longest_edge": size}, do_pad=False)
    expected = processed(sam, image)
    frame = longest_side(width, height, size).apply(image, "bilinear")
    assert frame.shape == (size, size, 3)
    assert np.array_equal(frame[: expected.shape[0], : expected.shape[1]], expected)
    assert (frame[expected.shape[0] :] == (124, 116, 104)).all()
    assert (frame[:, expected.shape[1] :] == (124, 116, 104)).all()


@settings(max_examples=30, deadline=None)
@given(sides, sides, frames, seeds)
def test_squash_is_pillows_resize(width, height, size, seed):
    image = photo(width, height, seed)
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    assert np.array_equal(squash(width, height, size).apply(image), np.array(expected))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["crop", "pad"]), sides, sides, frames, st.booleans(), seeds)
def test_the_window_alone_equals_pillows_whole_picture(kind, width, height, size, linear, seed):
    """Above `_WASTE` one pass is ours; here every picture goes both ways.

    A crop only comes there by being enlarged. (Where it shrinks, Pillow may begin with the columns,
    which changes the rounding between the passes.)
    """
    assume(kind == "pad" or min(width, height) <= size)
    place, image = geometry(kind, width, height, size), photo(width, height, seed)
    filter_ = "bilinear" if linear else "bicubic"
    frames_made = []
    for waste in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_WASTE", waste)
            frames_made.append(place.apply(image, filter_))
    assert np.array_equal(*frames_made)


@pytest.mark.parametrize(("width", "height"), [(1, 4000), (4000, 1), (2, 20_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_proportions_need_little_memory(kind, width, height, monkeypatch):
    """Made whole, the 1×4000 picture would have 450 million pixels, the third 1 billion."""
    made = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *rest: made.append(size[0] * size[1]) or resize(self, size, *rest),
    )
    image = photo(width, height)
    frame = geometry(kind, width, height, 336).apply(image)
    assert frame.shape == (336, 336, 3)
    assert max(made) <= 336 * max(width, height)
    mask = np.ones((height, width), dtype=bool)
    covered = geometry(kind, width, height, 336).coverage(mask, 24)
    assert 0 < covered.max() <= 1


def test_an_image_of_another_size_is_refused():
    place = center_crop(640, 480, 336)
    with pytest.raises(ValueError, match=r"640x480 pixels and expects \(480, 640, 3\)"):
        place.apply(photo(480, 640))
    with pytest.raises(ValueError, match=r"the mask has the shape \(640, 480\)"):
        place.coverage(np.zeros((640, 480), dtype=bool), 24)


def test_the_fill_can_be_chosen():
    frame = pad_square(10, 2, 50, fill=(1, 2, 3)).apply(photo(10, 2))
    assert (frame[0] == (1, 2, 3)).all()


def test_edges_drawn_in_the_image_are_found_where_the_affine_puts_them():
    """A step at a known column, measured in the frame by its brightness, to an eighth pixel."""
    for kind in KINDS:
        for width, height in ((500, 333), (333, 500), (640, 427), (200, 150)):
            place = geometry(kind, width, height, 336)
            for axis, side in ((place.x, width), (place.y, height)):
                edge = side // 2 + 7
                image = np.zeros((height, width, 3), dtype=np.uint8)
                bright = image if axis is place.y else image.transpose(1, 0, 2)
                bright[edge:] = 255
                frame = place.apply(image, "bilinear")[..., 0] / 255
                profile = (frame if axis is place.y else frame.T)[:, 100]
                low, high = np.array([edge - 12, edge + 12]) * axis.scale + axis.offset
                window = profile[int(low) : int(high)]
                found = int(high) - window.sum()
                assert found == pytest.approx(edge * axis.scale + axis.offset, abs=0.13), kind


# ---------------------------------------------------------------- boxes


@settings(max_examples=100, deadline=None)
@given(kinds, sides, sides, frames, seeds)
def test_boxes_go_there_and_back(kind, width, height, size, seed):
    place = geometry(kind, width, height, size)
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(-5, max(width, height) + 5, (7, 4))
    there = place.to_frame(boxes)
    np.testing.assert_allclose(place.to_original(there), boxes, rtol=1e-12, atol=1e-9)
    scale, offset = np.array([place.x.scale, place.y.scale]), [place.x.offset, place.y.offset]
    np.testing.assert_allclose(there[:, :2], boxes[:, :2] * scale + offset, rtol=1e-12)
    np.testing.assert_allclose(there[3], place.to_frame(boxes[3].tolist()))


@settings(max_examples=60, deadline=None)
@given(kinds, sides, sides, frames, seeds)
def test_a_box_covers_what_its_filled_mask_covers(kind, width, height, size, seed):
    place = geometry(kind, width, height, size)
    x0, x1 = np.sort(np.random.default_rng(seed).integers(0, width + 1, 2))
    y0, y1 = np.sort(np.random.default_rng(seed + 1).integers(0, height + 1, 2))
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    left, top, right, bottom = np.clip(place.to_frame([x0, y0, x1, y1]), 0, size)
    area = place.coverage(mask, 7).sum() * (size / 7) ** 2
    assert area == pytest.approx((right - left) * (bottom - top), abs=1e-6 * size**2)


@settings(max_examples=60, deadline=None)
@given(kinds, sides, sides, frames)
def test_the_frame_shows_the_image_as_each_kind_promises(kind, width, height, size):
    place = geometry(kind, width, height, size)
    assert (place.size, place.frame) == ((width, height), (size, size))
    left, top, right, bottom = place.to_frame([0, 0, width, height])
    if kind == "squash":
        assert (left, top, right, bottom) == pytest.approx((0, 0, size, size))
    elif kind == "longest-side":
        assert (left, top, max(right, bottom)) == pytest.approx((0, 0, size))
    elif kind == "crop":
        assert max(left, top) <= 0
        assert min(right, bottom) >= size - 1e-9
        for before, after in ((-left, right - size), (-top, bottom - size)):
            assert -1e-9 <= after - before <= 1 + 1e-9  # centred, the odd pixel is at the end
    else:
        for before, after in ((left, size - right), (top, size - bottom)):
            assert before >= 0
            assert -1e-9 <= after - before <= place.x.scale + 1e-9  # the odd pixel is at the end
