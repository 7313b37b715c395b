"""Patch coverage against golden numbers, exact fractions and supersampling."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from pad_pipeline import masks
from pad_pipeline.geometry import Axis, ImageGeometry, Kind, center_crop, coverage_float32, geometry
from tests.golden_data import golden_dir

KINDS: tuple[Kind, ...] = ("squash", "longest-side", "crop", "pad")
kinds = st.sampled_from(KINDS)
sides = st.integers(1, 120) | st.sampled_from([1, 2, 3, 335, 336, 337])
frames = st.sampled_from([14, 56, 96])
seeds = st.integers(0, 2**32 - 1)


def test_golden_coverage_is_exact_and_so_is_every_decision():
    folder = golden_dir("image_geometry")
    numerators = load_file(folder / "coverage_numerators.safetensors")
    golden = json.loads((folder / "geometry.json").read_text())
    ties = compared = 0
    for image in golden["images"]:
        width, height = image["size_wh"]
        decoded = [masks.decode(mask["counts"], height, width) for mask in image["masks"]]
        for kind in ("crop", "pad"):
            place = geometry(kind, width, height, golden["frame"])
            for grid in map(int, golden["grids"]):
                for mask, found in zip(
                    image["masks"], place.coverage_many(decoded, grid), strict=True
                ):
                    name = f"{kind}{grid}"
                    above = numerators[f"{mask['key']}.{name}"].ravel().astype(np.int64)
                    below = mask["denominators"][name]
                    assert np.array_equal(found, above / below), (mask["key"], name)
                    assert np.array_equal(found >= 0.5, 2 * above >= below), (mask["key"], name)
                    assert (found >= 0.5).sum() == mask["num_covered"][name]
                    ties += int((2 * above == below).sum())
                    compared += 1
    assert ties == golden["ties_at_exactly_half"]
    assert compared == len(numerators) > 0


def exact_coverage(
    place: ImageGeometry, mask: np.ndarray, rows: int, columns: int, skip: int = 0
) -> list[Fraction]:
    """Pixel by pixel and cell by cell from the affine as fractions; `skip` rows are cut off."""

    def shares(axis: Axis, cells: int) -> list[list[Fraction]]:
        scale = Fraction(axis.resized, axis.canvas)
        offset, cell = axis.pad * scale - axis.crop, Fraction(axis.frame, cells)
        table = []
        for number in range(cells):
            low, high = number * cell, (number + 1) * cell
            pixels = ((j * scale + offset, (j + 1) * scale + offset) for j in range(axis.size))
            table.append([max(Fraction(0), min(high, b) - max(low, a)) / cell for a, b in pixels])
        return table

    down, across = shares(place.y, rows), shares(place.x, columns)
    inside = list(zip(*np.nonzero(mask), strict=True))
    return [
        sum((down[i][y + skip] * across[j][x] for y, x in inside), Fraction(0))
        for i in range(rows)
        for j in range(columns)
    ]


small = st.integers(1, 12)


@settings(max_examples=80, deadline=None)
@given(kinds, small, small, st.sampled_from([8, 14, 15]), small, small, seeds)
@example("crop", 1, 12, 14, 4, 4, 0)
@example("pad", 12, 1, 14, 4, 4, 0)
def test_coverage_equals_exact_fractions(kind, width, height, size, rows, columns, seed):
    place = geometry(kind, width, height, size)
    mask = np.random.default_rng(seed).random((height, width)) < 0.6
    found = place.coverage(mask, (rows, columns))
    exact = exact_coverage(place, mask, rows, columns)
    assert found.dtype == np.float64
    assert [float(value) for value in exact] == found.tolist()
    assert [value >= Fraction(1, 2) for value in exact] == (found >= 0.5).tolist()


@settings(max_examples=60, deadline=None)
@given(kinds, st.integers(1, 60), st.integers(1, 60), st.sampled_from([2, 4]), seeds)
def test_coverage_equals_supersampling(kind, width, height, grid, seed):
    """Sampled at 64×64 points of every cell, through the affine and nothing else."""
    place = geometry(kind, width, height, 28)
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    per_axis = 64 * grid
    at = (np.arange(per_axis) + 0.5) * 28 / per_axis
    x = np.floor((at - place.x.offset) / place.x.scale).astype(int)
    y = np.floor((at - place.y.offset) / place.y.scale).astype(int)
    x_in, y_in = (x >= 0) & (x < width), (y >= 0) & (y < height)
    samples = mask[np.ix_(np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))]
    samples = samples & y_in[:, None] & x_in
    means = samples.reshape(grid, 64, grid, 64).mean(axis=(1, 3)).ravel()
    # Each pixel edge that crosses a cell misplaces at most one row or column of samples.
    edges = 2 + 28 / grid * (1 / place.x.scale + 1 / place.y.scale)
    np.testing.assert_allclose(place.coverage(mask, grid), means, atol=min(edges, 20) / 64)


@settings(max_examples=40, deadline=None)
@given(kinds, sides, sides, frames, st.integers(1, 5), seeds)
def test_many_masks_equal_each_alone_in_any_memory_order(kind, width, height, size, count, seed):
    place = geometry(kind, width, height, size)
    several = np.random.default_rng(seed).random((count, height, width)) < 0.4
    several[0] = False
    together = place.coverage_many(list(several), 7)
    assert together.shape == (count, 49)
    assert not together[0].any()
    for mask, row in zip(several, together, strict=True):
        decoded = masks.decode(masks.encode(mask), height, width)  # stored by columns
        assert np.array_equal(place.coverage(decoded, (7, 7)), row)


@settings(max_examples=60, deadline=None)
@given(kinds, sides, sides, frames, seeds)
def test_a_mask_and_the_rest_make_up_the_image(kind, width, height, size, seed):
    place = geometry(kind, width, height, size)
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    parts = place.coverage_many([mask, ~mask, np.ones_like(mask)], 7)
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-12)
    if kind in ("squash", "crop"):
        assert (parts[2] == 1).all()  # exactly: nothing but image in the frame


def test_no_masks_give_no_rows():
    assert center_crop(4, 3, 14).coverage_many([], 2).shape == (0, 4)


@pytest.mark.parametrize("kind", ["squash", "crop", "pad"])
@pytest.mark.parametrize("side", [99, 101, 343, 641, 1023])
def test_an_exact_half_of_an_endless_scale_is_a_half(kind, side):
    """336 / 343 and its like have no finite binary form; half of each cell is 0.5 all the same."""
    mask = np.zeros((side, side), dtype=bool)
    mask[: side // 2] = True
    place = geometry(kind, side, side, 336)
    assert place.coverage(mask, 1)[0] == (side // 2) / side < 0.5
    doubled = geometry(kind, 2 * side, 2 * side, 336)
    mask = np.zeros((2 * side, 2 * side), dtype=bool)
    mask[:side] = True  # the middle of the frame, hence of a cell where their number is odd
    assert (doubled.coverage(mask, 7).reshape(7, 7)[3] == 0.5).all()


def test_float32_keeps_a_value_below_the_half_below_it():
    just_below = np.nextafter(0.5, 0)
    values = np.array([[0.0, just_below, 0.5, 0.7, 0.5 - 1e-9, 1.0]])
    assert (values.astype(np.float32) >= 0.5).tolist() == [[False, True, True, True, True, True]]
    narrow = coverage_float32(values)
    assert narrow.dtype == np.float32
    assert ((narrow >= 0.5) == (values >= 0.5)).all()
    np.testing.assert_allclose(narrow, values, atol=1e-7)


def test_cells_of_many_units_are_exact_too():
    """Above 2²⁴ units to a cell, float32 could not hold the sums."""
    place = center_crop(5, 99_991, 337)
    shared, cell = place.y.overlaps(1)
    mask = np.zeros((99_991, 5), dtype=bool)
    mask[49_994:49_997, :2] = True  # whole rows, in the middle of the five that the frame shows
    total = shared[0, 49_994:49_997].sum()
    assert 1 << 24 < total < cell
    assert total % 2 == 1, "no float32"
    exact = exact_coverage(place, mask[49_980:], 1, 1, skip=49_980)[0]
    assert place.coverage(mask, 1)[0] == float(exact)
