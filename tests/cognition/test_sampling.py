from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.cognition.answers import as_grid, read_rgb, write_rgb
from pad_pipeline.cognition.regions import FrameRegion
from pad_pipeline.cognition.sampling import RgbSampling, grid_shape, sample_rgb

FRAME = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.mark.parametrize("how", ["nearest", "mean"])
def test_a_picture_comes_back_from_its_answer(how: RgbSampling) -> None:
    region = FrameRegion("", 8, 4, 32, 16)
    shape = grid_shape(region, 24)
    assert shape == (12, 24)
    back = as_grid(read_rgb(write_rgb(sample_rgb(FRAME, region, shape, how))), *shape)
    # a cell a pixel: nothing is lost
    assert np.array_equal(back, FRAME[4:16, 8:32])


def test_nearest_is_the_pixel_in_the_middle_of_each_cell() -> None:
    found = sample_rgb(FRAME, FrameRegion("", 0, 0, 40, 40), (2, 5), "nearest")
    assert np.array_equal(found, FRAME[[[10], [30]], [4, 12, 20, 28, 36]])


def test_mean_weighs_pixels_by_the_part_inside_a_cell() -> None:
    region = FrameRegion("", 1, 2, 11, 9)  # 10 x 7 pixels in 3 x 4 cells
    fine = np.repeat(np.repeat(FRAME[2:9, 1:11].astype(float), 12, 0), 12, 1)
    expected = fine.reshape(3, 28, 4, 30, 3).mean((1, 3))
    found = sample_rgb(FRAME, region, (3, 4), "mean")
    assert np.array_equal(found, np.floor(expected + 0.5))


def test_a_grid_has_no_more_cells_than_pixels_and_no_less_than_one() -> None:
    assert grid_shape(FrameRegion("", 0, 0, 8, 4), 16) == (4, 8)
    assert grid_shape(FrameRegion("", 0, 0, 400, 8), 16) == (1, 16)
    assert grid_shape(FrameRegion("", 0, 0, 336, 336), 16) == (16, 16)
