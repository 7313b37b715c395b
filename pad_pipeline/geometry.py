"""How an image lies in a model's frame: one affine for its pixels, boxes and masks.

Coordinates are continuous, in pixels: pixel j covers [j, j + 1), so the frame of a 336 px model
reaches from 0 to 336 and x in the original is x · scale + offset in the frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pad_pipeline.normalisation import CLIP_MEAN
from pad_pipeline.resampling import PILLOW_FILTERS, WEIGHT_BITS, Filter, tap_weights

Kind = Literal["squash", "longest-side", "crop", "pad"]
Fill = tuple[int, int, int]
_Float = TypeVar("_Float", np.float32, np.float64)

_RED, _GREEN, _BLUE = (int(255 * value) for value in CLIP_MEAN)
CLIP_MEAN_RGB: Fill = (_RED, _GREEN, _BLUE)
"""CLIP's mean colour as LLaVA truncates it to 8 bits."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a geometry: pad to a canvas, resize that, take the frame from it. All pixels."""

    size: int
    """The original image."""
    pad: int
    """Where the image begins on the canvas."""
    canvas: int
    """The padded image."""
    resized: int
    """The canvas after resizing."""
    crop: int
    """Where the frame begins on the resized canvas; negative where it is padded before."""
    frame: int
    """What the model gets; longer than the resized canvas where it is padded at the end."""

    def __post_init__(self) -> None:
        assert min(self.size, self.resized, self.frame) > 0, "an image has at least one pixel"
        assert 0 <= self.pad <= self.canvas - self.size, "the canvas holds the image"
        assert -self.frame < self.crop < self.resized, "the frame shows a part of the canvas"

    @property
    def scale(self) -> float:
        return self.resized / self.canvas

    @property
    def offset(self) -> float:
        return self.pad * self.resized / self.canvas - self.crop

    def overlaps(self, cells: int) -> tuple[NDArray[np.int64], int]:
        """(cells, size) lengths that each cell shares with each pixel, and the length of a cell.

        The frame is divided into equal cells. All edges are multiples of 1 / (canvas · cells), so
        in that unit (or a coarser one, if they have a common divisor) lengths are whole numbers.
        """
        pixel, start = self.resized * cells, (self.pad * self.resized - self.crop * self.canvas)
        start, cell = start * cells, self.frame * self.canvas
        unit = math.gcd(pixel, start, cell)
        pixels = (start + pixel * np.arange(self.size + 1)) // unit
        edges = cell // unit * np.arange(cells + 1)
        shared = np.minimum(edges[1:, None], pixels[1:]) - np.maximum(edges[:-1, None], pixels[:-1])
        return np.maximum(shared, 0), cell // unit


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """The way from an original image's pixels to a model's frame and back.

    Made by `squash`, `longest_side`, `center_crop`, `pad_square`, `fit_centre` or `geometry`.
    """

    x: Axis
    y: Axis
    fill: Fill = CLIP_MEAN_RGB
    """RGB, 0–255, where the frame shows nothing of the image."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the original, in pixels."""
        return self.x.size, self.y.size

    @property
    def frame(self) -> tuple[int, int]:
        """(width, height) of the model's frame, in pixels."""
        return self.x.frame, self.y.frame

    @property
    def content(self) -> tuple[int, int]:
        """(width, height) of the part of the frame from its top left that is not padding after it.

        Smaller than the frame for `longest_side` alone.
        """
        x, y = (min(axis.resized - axis.crop, axis.frame) for axis in (self.x, self.y))
        return x, y

    def apply(self, image: NDArray[np.uint8], filter: Filter = "bicubic") -> NDArray[np.uint8]:
        """`image` (HWC uint8 RGB) in the frame (HWC uint8 RGB), resized as Pillow does it.

        With "bicubic", `center_crop` and `pad_square` give the pixels of transformers' Pillow
        processors bit for bit; with "bilinear", `longest_side` gives those of SAM's.
        Raises `ValueError` where the image has another size than the geometry was made for.
        """
        self._check("image", image.shape, (self.y.size, self.x.size, 3))
        x, y = self.x, self.y
        needed = max(x.size * y.size, x.frame * y.frame)
        if max(x.canvas * y.canvas, x.resized * y.resized) > _WASTE * needed:
            across = _resize_axis(image.transpose(1, 0, 2), x, filter, self.fill)
            return _resize_axis(across.transpose(1, 0, 2), y, filter, self.fill)
        canvas = _place(image, y.canvas, x.canvas, y.pad, x.pad, self.fill)
        resized = Image.fromarray(canvas).resize((x.resized, y.resized), PILLOW_FILTERS[filter])
        width, height = self.content
        left, top = max(0, x.crop), max(0, y.crop)
        window = np.array(resized.crop((left, top, x.crop + width, y.crop + height)))
        return _place(window, y.frame, x.frame, top - y.crop, left - x.crop, self.fill)

    def to_frame(self, boxes_xyxy: ArrayLike, dtype: type[_Float] = np.float64) -> NDArray[_Float]:
        """(…, 4) boxes in pixels of the original -> the same in pixels of the frame, unclipped.

        `dtype` is that of the arithmetic and the result; SAM computes in float32.
        """
        scales, offsets = self._scales().astype(dtype), self._offsets().astype(dtype)
        return (np.asarray(boxes_xyxy, dtype=dtype) * scales + offsets).astype(dtype, copy=False)

    def to_original(self, boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
        """(…, 4) boxes in pixels of the frame -> the same in pixels of the original, unclipped."""
        return (np.asarray(boxes_xyxy, dtype=np.float64) - self._offsets()) / self._scales()

    def first(self, size: int) -> ImageGeometry:
        """The same image in a frame that ends after its first `size` pixels along both axes."""
        return replace(self, x=replace(self.x, frame=size), y=replace(self.y, frame=size))

    def coverage(self, mask: NDArray[np.bool_], grid: int | tuple[int, int]) -> NDArray[np.float64]:
        """`coverage_many` of one (H, W) bool mask: (rows · columns,) float64."""
        return self.coverage_many([mask], grid)[0]

    def coverage_many(
        self, masks: Sequence[NDArray[np.bool_]], grid: int | tuple[int, int]
    ) -> NDArray[np.float64]:
        """The share of each cell's area that R masks (H, W) bool cover: (R, cells) float64, 0–1.

        `grid` is the number of cells along both axes or (rows, columns); cells are row-major.
        What lies in the frame but outside the image (padding) counts as uncovered.

        The areas are sums of whole numbers below 2⁵³, hence exact, and dividing two such numbers
        cannot round up to a half: `coverage >= 0.5` in float64 is the exact decision, ties
        included. (It needs (size · frame)² < 2⁵³: an image side of 280,000 at 336 px.) Narrow it
        with `coverage_float32`: plain rounding may lift a value just below the half onto it.
        Raises `ValueError` where a mask has another size than the geometry was made for.
        """
        rows, columns = (grid, grid) if isinstance(grid, int) else grid
        down, cell_height = self.y.overlaps(rows)
        across, cell_width = self.x.overlaps(columns)
        # float32 holds the sums within one column exactly as long as a cell is below 2²⁴
        narrow = np.float32 if cell_height < 1 << 24 else np.float64
        down, across = down.astype(narrow), across.T.astype(np.float64)
        areas = np.empty((len(masks), rows, columns))
        for mask, area in zip(masks, areas, strict=True):
            self._check("mask", mask.shape, (self.y.size, self.x.size))
            # a region is often small: only the rectangle around it is converted and multiplied
            y, x = _extent(mask, 1), _extent(mask, 0)
            strips = down[:, y] @ mask[y, x].astype(narrow)
            np.matmul(strips.astype(np.float64), across[x], out=area)
        return (areas / (cell_height * cell_width)).reshape(len(masks), rows * columns)

    def _scales(self) -> NDArray[np.float64]:
        return np.array([self.x.scale, self.y.scale] * 2)

    def _offsets(self) -> NDArray[np.float64]:
        return np.array([self.x.offset, self.y.offset] * 2)

    def _check(self, what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            raise ValueError(
                f"the {what} has the shape {found}, but this geometry was made for an image of "
                f"{self.x.size}x{self.y.size} pixels and expects {expected}"
            )


def coverage_float32(coverage: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same shares in float32, on the same side of one half as before."""
    narrow = coverage.astype(np.float32)
    narrow[(coverage < 0.5) & (narrow >= 0.5)] = np.nextafter(np.float32(0.5), np.float32(0))
    return narrow


def squash(width: int, height: int, size: int) -> ImageGeometry:
    """Both sides to `size`, whatever the proportions (RAM)."""
    return ImageGeometry(_plain(width, size, 0, size), _plain(height, size, 0, size))


def longest_side(width: int, height: int, size: int) -> ImageGeometry:
    """The longest side to `size`; square, the image at the top left (SAM).

    Sides are rounded by `int(x + 0.5)` as SAM does, but never to 0. SAM pads with zeros after
    normalising, which is its mean colour before: (123.7, 116.3, 103.5), here in 8 bits.
    """
    scale = size / max(width, height)
    x, y = (_plain(side, max(1, int(side * scale + 0.5)), 0, size) for side in (width, height))
    return ImageGeometry(x, y, (124, 116, 104))


def center_crop(width: int, height: int, size: int) -> ImageGeometry:
    """The shortest side to `size`, the long one truncated to an integer, then the middle (CLIP).

    The two scales differ slightly for that reason; of an odd rest the frame leaves one pixel more
    at the right or bottom.
    """
    short = min(width, height)
    resized = (size * side // short for side in (width, height))
    x, y = (
        _plain(side, new, (new - size) // 2, size)
        for side, new in zip((width, height), resized, strict=True)
    )
    return ImageGeometry(x, y)


def pad_square(width: int, height: int, size: int, fill: Fill = CLIP_MEAN_RGB) -> ImageGeometry:
    """Padded to a square with `fill`, the image in the middle, then resized to `size` (LLaVA).

    Of an odd rest the right or bottom has one pixel more. The border is blurred by the resize, and
    its place in the frame need not be a whole number.
    """
    long = max(width, height)
    x, y = (Axis(side, (long - side) // 2, long, size, 0, size) for side in (width, height))
    return ImageGeometry(x, y, fill)


def fit_centre(
    width: int, height: int, frame: tuple[int, int], fill: Fill = (0, 0, 0)
) -> ImageGeometry:
    """As large as a frame of (width, height) holds, in its middle, padded with `fill` (LLaVA-NeXT).

    The side that leaves room is rounded up; of an odd rest the right or bottom has one pixel more.
    """
    across, down = frame[0] / width, frame[1] / height
    if across < down:
        new = frame[0], min(math.ceil(height * across), frame[1])
    else:
        new = min(math.ceil(width * down), frame[0]), frame[1]
    x, y = (
        Axis(side, 0, side, resized, -((whole - resized) // 2), whole)
        for side, resized, whole in zip((width, height), new, frame, strict=True)
    )
    return ImageGeometry(x, y, fill)


_KINDS: dict[Kind, Callable[[int, int, int], ImageGeometry]] = {
    "squash": squash,
    "longest-side": longest_side,
    "crop": center_crop,
    "pad": pad_square,
}


def geometry(kind: Kind, width: int, height: int, size: int) -> ImageGeometry:
    """The geometry by its name, for an original of width × height pixels."""
    return _KINDS[kind](width, height, size)


def _extent(mask: NDArray[np.bool_], across: int) -> slice:
    """From the first true row (across 1) or column (across 0) to the last; empty without any."""
    used = np.flatnonzero(mask.any(axis=across))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0)


def _plain(side: int, resized: int, crop: int, frame: int) -> Axis:
    """An axis without padding before the resize."""
    return Axis(side, 0, side, resized, crop, frame)


_WASTE = 8
"""How many times more pixels than needed Pillow may make; a 1×4000 image would need 4,000 times."""


def _place(
    image: NDArray[np.uint8], height: int, width: int, top: int, left: int, fill: Fill
) -> NDArray[np.uint8]:
    """`image` (HWC) on a larger canvas of colour `fill`; itself where the size is the same."""
    if image.shape[:2] == (height, width):
        return image
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:] = fill
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _resize_axis(
    lines: NDArray[np.uint8], axis: Axis, filter: Filter, fill: Fill
) -> NDArray[np.uint8]:
    """(size, M, 3) uint8 -> (frame, M, 3) uint8: one of Pillow's two passes, on the window alone.

    Neither the padding nor what is cropped away is ever made. Same arithmetic as Pillow's
    `ImagingResample` for 8 bits, so the pixels are the same.
    """
    if (axis.size, axis.resized) == (axis.canvas, axis.frame):
        width = lines.shape[1]
        return np.array(Image.fromarray(lines).resize((width, axis.frame), PILLOW_FILTERS[filter]))
    first, weights = tap_weights(
        axis.canvas, axis.resized, filter, start=axis.crop, count=axis.frame
    )
    taps = first[:, None] + np.arange(weights.shape[1]) - axis.pad
    begin, end = max(0, int(taps.min())), min(axis.size, int(taps.max()) + 1)
    inside = (taps >= begin) & (taps < end)
    matrix = np.zeros((axis.frame, end - begin))
    frame_index = np.broadcast_to(np.arange(axis.frame)[:, None], taps.shape)
    matrix[frame_index[inside], taps[inside] - begin] = weights[inside]
    # whole numbers far below 2⁵³, so float64 sums them exactly
    sums = np.tensordot(matrix, lines[begin:end].astype(np.float64), 1)
    sums += np.multiply.outer(np.where(inside, 0, weights).sum(1), np.array(fill))[:, None]
    return np.clip(np.floor(sums / (1 << WEIGHT_BITS) + 0.5), 0, 255).astype(np.uint8)
