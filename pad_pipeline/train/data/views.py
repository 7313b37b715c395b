"""What the tower sees of one image: a single frame, or the whole and tiles; and masks on these.

Shapes: V views, R regions, S patches of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.geometry import (
    Axis,
    ImageGeometry,
    coverage_float32,
    fit_centre,
    geometry,
    squash,
)
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.tiling import Tiling, choose_tiling


@dataclass(frozen=True, slots=True)
class Views:
    """How an image of one size is shown; `tiling` is None where one frame shows it."""

    image: VisionInput
    placement: ImageGeometry
    """Of the frame, or of the canvas that the tiles are cut from."""
    tiling: Tiling | None

    @property
    def num_tokens(self) -> int:
        """Tokens that the LLM reads of the image."""
        if self.tiling is None:
            return self.image.num_tokens
        return self.tiling.num_tokens(self.image.grid)

    def frames(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The V views of `pixels` (HWC uint8 RGB), each size × size."""
        drawn = self.placement.apply(pixels)
        if self.tiling is None:
            return [drawn]
        tiling, size = self.tiling, self.image.size
        tiles = drawn.reshape(tiling.rows, size, tiling.columns, size, 3).swapaxes(1, 2)
        return [self._whole.apply(pixels), *tiles.reshape(-1, size, size, 3)]

    def coverage(self, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
        """(V, R, S) the share of each patch's area that the masks (H, W) bool cover, 0–1.

        A patch of a tile that the LLM does not read, as it shows padding, counts as uncovered.
        """
        if self.tiling is None:
            return self._covered(self.placement, masks)[None]
        tiling = self.tiling
        views = [self._covered(self._whole, masks)]
        for row in range(tiling.rows):
            for column in range(tiling.columns):
                tile = self._tile(row, column)
                nothing = np.zeros_like(views[0])
                views.append(nothing if tile is None else self._covered(tile, masks))
        return np.stack(views) * tiling.read_tokens(self.image.grid)[:, None]

    @property
    def _whole(self) -> ImageGeometry:
        return squash(*self.placement.size, self.image.size)

    def _tile(self, row: int, column: int) -> ImageGeometry | None:
        """Where the image lies in a tile; None where the tile shows nothing of it."""
        size, covered = self.image.size, self.image.covered or self.image.size
        x, y = (
            _window(axis, number * size, covered)
            for axis, number in ((self.placement.x, column), (self.placement.y, row))
        )
        return None if x is None or y is None else replace(self.placement, x=x, y=y)

    def _covered(
        self, placement: ImageGeometry, masks: Sequence[NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        covered = placement.first(self.image.covered or self.image.size)
        return coverage_float32(covered.coverage_many(masks, self.image.grid))


def views_of(config: TrainConfig, image: VisionInput, width: int, height: int) -> Views:
    """How a run with this config shows an image of `width` × `height` pixels."""
    if config.geometry != "anyres":
        return Views(image, geometry(config.geometry, width, height, image.size), None)
    tiling = choose_tiling(width, height, image.size, config.tile_grids)
    canvas = tiling.columns * image.size, tiling.rows * image.size
    return Views(image, fit_centre(width, height, canvas), tiling)


def _window(axis: Axis, start: int, size: int) -> Axis | None:
    """The part of an axis's frame from `start` on; None where the image does not reach into it."""
    crop = axis.crop + start
    return replace(axis, crop=crop, frame=size) if -size < crop < axis.resized else None
