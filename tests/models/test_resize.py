"""Resizing against photos that the reference pipelines resized."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pad_pipeline.models.resize import (
    Filter,
    resize_uint8,
    resize_with_pillow,
    resize_with_torch,
)
from tests.golden_data import golden_dir


def read_rgb(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "filter"), [("pipeline", "bicubic"), ("get_transform", "bilinear")]
)
@pytest.mark.parametrize("size", [128, 384])  # the photo is 200x300: smaller and larger
@pytest.mark.parametrize(
    ("resize", "most"), [(resize_uint8, 0), (resize_with_pillow, 0), (resize_with_torch, 1)]
)
def test_photos_equal_the_references(name: str, filter: Filter, size: int, resize, most: int):
    photo = read_rgb(golden_dir("sam_tiny") / "landscape.png")
    expected = read_rgb(golden_dir("preprocess") / f"ram_{size}_{name}.png").transpose(2, 0, 1)
    resized = resize(photo, size, size, filter)
    assert resized.dtype == torch.uint8
    assert np.abs(resized.numpy().astype(int) - expected).max() <= most


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 400), (400, 1), (7, 500), (64, 48), (24, 32), (301, 203), (203, 301)]
)
def test_torch_and_pillow_agree_within_one_level(filter: Filter, shape: tuple[int, int]):
    # black and white noise overshoots as much as pixels can
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), size=(*shape, 3))
    by_pillow = resize_with_pillow(noise, 24, 32, filter).int()
    by_torch = resize_with_torch(noise, 24, 32, filter).int()
    assert by_pillow.shape == (3, 24, 32)
    assert (by_pillow - by_torch).abs().max() <= 1


def test_reads_arrays_that_are_views_or_read_only():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image.flags.writeable = False
    for view in (image, image[::-1, ::2]):
        for resize in (resize_with_pillow, resize_with_torch):
            same = resize(view, *view.shape[:2], "bicubic")
            assert np.array_equal(same.permute(1, 2, 0).numpy(), view)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_gpu_agrees_with_pillow_within_one_level(filter: Filter):
    photo = read_rgb(golden_dir("sam_tiny") / "landscape.png")
    on_gpu = resize_uint8(photo, 384, 384, filter, "cuda")
    assert on_gpu.device.type == "cuda"
    by_pillow = resize_with_pillow(photo, 384, 384, filter).int()
    assert (on_gpu.cpu().int() - by_pillow).abs().max() <= 1
