"""Images in tiles: the choice, the pixels and the packing of LLaVA-NeXT in transformers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlavaNextConfig, LlavaNextImageProcessorPil, LlavaNextModel
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
)

from pad_pipeline.train.data.views import views_of
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.tiling import Tiling, choose_tiling, pack_views
from tests.train.model.toy_llava import settings

SIZE, PATCH, GRID = 56, 14, 4
IMAGE = VisionInput(size=SIZE, grid=GRID, num_tokens=GRID**2)
CONFIG = TrainConfig(vision="", llm="", geometry="anyres")
GRIDS = CONFIG.tile_grids
PINPOINTS = [[rows * SIZE, columns * SIZE] for rows, columns in GRIDS]
SIZES = [
    (90, 61),
    (61, 90),
    (56, 56),
    (300, 40),
    (40, 300),
    (7, 7),
    (113, 56),
    (1, 500),
    (400, 399),
]
"""(width, height) of images: wide, high, square, tiny, and with rests that round."""


def photo(width: int, height: int) -> np.ndarray:
    generator = np.random.default_rng(width * height)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_grid_is_the_one_that_transformers_chooses() -> None:
    draw = random.Random(0)
    sizes = [*SIZES, *((draw.randint(1, 2000), draw.randint(1, 2000)) for _ in range(400))]
    for width, height in sizes:
        found = choose_tiling(width, height, SIZE, GRIDS)
        best = select_best_resolution((height, width), PINPOINTS)
        assert (found.rows * SIZE, found.columns * SIZE) == best, (width, height)
        shape = get_anyres_image_grid_shape((height, width), PINPOINTS, SIZE)
        assert (found.rows, found.columns) == shape
        assert found.num_views == image_size_to_num_patches((height, width), PINPOINTS, SIZE)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_views_are_the_pixels_of_transformers(width: int, height: int) -> None:
    image = photo(width, height)
    processor = LlavaNextImageProcessorPil(
        image_grid_pinpoints=PINPOINTS,
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
    )
    theirs = processor(image, return_tensors="pt")["pixel_values"][0]
    frames = views_of(CONFIG, IMAGE, width, height).frames(image)
    ours = IMAGE.normalise(frames)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def next_model() -> Any:
    vision, llama = settings()
    config = LlavaNextConfig(
        vision_config=vision, text_config=llama, image_grid_pinpoints=PINPOINTS
    )
    return LlavaNextModel(config)


def test_views_are_packed_as_transformers_does(next_model: Any) -> None:
    torch.manual_seed(0)
    newline = torch.randn(8)
    tilings = [choose_tiling(width, height, SIZE, GRIDS) for width, height in SIZES]
    tokens = torch.randn(sum(each.num_views for each in tilings), GRID**2, 8)
    theirs, lengths = next_model.pack_image_features(
        tokens.split([each.num_views for each in tilings]),
        torch.tensor([[height, width] for width, height in SIZES]),
        "default",
        image_newline=newline,
    )
    assert lengths.tolist() == [each.num_tokens(GRID) for each in tilings]
    assert torch.equal(pack_views(tokens, tilings, newline), torch.cat(theirs))


def test_without_images_the_newline_gets_a_gradient_of_zero() -> None:
    newline = torch.ones(8, requires_grad=True)
    pack_views(torch.zeros(0, GRID**2, 8), (), newline).sum().backward()
    assert newline.grad is not None
    assert not newline.grad.any()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_coverage_is_that_of_the_mask_drawn_on_every_tile(width: int, height: int) -> None:
    """Directly: each pixel of the mask is a rectangle on the canvas; its area on every patch."""
    generator = np.random.default_rng(3)
    mask = generator.random((height, width)) < 0.5
    mask[: height // 3] = True
    views = views_of(CONFIG, IMAGE, width, height)
    assert views.tiling is not None
    tiling = views.tiling
    whole, *tiles = views.coverage([mask])[:, 0]
    np.testing.assert_allclose(whole, areas(mask, SIZE, SIZE, 0, 0, SIZE, SIZE), atol=1e-6)
    across, down = tiling.columns * SIZE, tiling.rows * SIZE
    wide, high = views.placement.x.resized, views.placement.y.resized
    expected = areas(mask, wide, high, (across - wide) // 2, (down - high) // 2, across, down)
    canvas = expected.reshape(down // PATCH, across // PATCH)
    rows, columns = tiling.kept(GRID)
    unread = np.ones(canvas.shape, bool)
    unread[rows, columns] = False
    assert not (canvas[unread] > 0.5 + 0.5 / PATCH).any()  # what is not read shows padding
    canvas[unread] = 0
    for number, found in enumerate(tiles):
        row, column = divmod(number, tiling.columns)
        tile = canvas[row * GRID : (row + 1) * GRID, column * GRID : (column + 1) * GRID]
        np.testing.assert_allclose(found.reshape(GRID, GRID), tile, atol=1e-6)


def areas(
    mask: np.ndarray, wide: int, high: int, left: int, top: int, across: int, down: int
) -> np.ndarray:
    """The covered share of each patch of a frame in which the mask lies wide × high at (x, y)."""

    def shares(pixels: int, length: int, start: int, frame: int) -> np.ndarray:
        edges = start + np.arange(pixels + 1) * length / pixels
        cells = np.arange(frame // PATCH + 1) * PATCH
        low = np.maximum(edges[None, :-1], cells[:-1, None])
        high = np.minimum(edges[None, 1:], cells[1:, None])
        return np.clip(high - low, 0, None) / PATCH

    return (
        shares(mask.shape[0], high, top, down)
        @ mask.astype(float)
        @ shares(mask.shape[1], wide, left, across).T
    ).ravel()


def test_patches_that_a_tower_leaves_over_are_not_covered() -> None:
    """A tower of 60 pixels with patches of 14 has 4 × 4 of them, which end at pixel 56."""
    image = VisionInput(size=60, grid=4, num_tokens=16, covered=56)
    views = views_of(CONFIG, image, 120, 60)
    assert views.tiling == Tiling(120, 60, 1, 2)
    mask = np.zeros((60, 120), bool)
    mask[:, 70:] = True  # the second tile's pixels 10 to 60
    tile = views.coverage([mask])[2, 0].reshape(4, 4)
    np.testing.assert_allclose(tile[0], [4 / 14, 1, 1, 1], atol=1e-6)
