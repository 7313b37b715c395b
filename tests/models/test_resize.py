"""Resizing against photos that the reference pipelines resized."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pad_pipeline.models.resize import resize_uint8, resize_with_pillow, resize_with_torch
from pad_pipeline.resampling import Filter
from tests.golden_data import golden_dir


def read_rgb(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "filter"), [("pipeline", "bicubic"), ("get_transform", "bilinear")]
)
@pytest.mark.parametrize("resize", [resize_uint8, resize_with_pillow, resize_with_torch])
def test_photos_equal_the_references(name: str, filter: Filter, resize):
    photo = read_rgb(golden_dir("sam_tiny") / "landscape.png")
    references = sorted(golden_dir("preprocess").glob(f"ram_*_{name}.png"))
    assert references
    for path in references:
        expected = read_rgb(path).transpose(2, 0, 1)
        resized = resize(photo, *expected.shape[1:], filter)
        assert resized.dtype == torch.uint8
        np.testing.assert_array_equal(resized.numpy(), expected, err_msg=path.name)


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (1, 400),
        (400, 1),
        (7, 500),
        (64, 48),
        (24, 32),
        (301, 203),
        (203, 301),
        (2500, 3100),
    ],
)
def test_torch_and_pillow_agree_bit_for_bit(filter: Filter, shape: tuple[int, int]):
    # black and white noise overshoots as much as pixels can
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), size=(*shape, 3))
    for height, width in ((24, 32), (90, 33)):
        by_pillow = resize_with_pillow(noise, height, width, filter)
        assert by_pillow.shape == (3, height, width)
        assert torch.equal(resize_with_torch(noise, height, width, filter), by_pillow)


def test_reads_arrays_that_are_views_or_read_only():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image.flags.writeable = False
    for view in (image, image[::-1, ::2]):
        for resize in (resize_with_pillow, resize_with_torch):
            same = resize(view, *view.shape[:2], "bicubic")
            assert np.array_equal(same.permute(1, 2, 0).numpy(), view)
