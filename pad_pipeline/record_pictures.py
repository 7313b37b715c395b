"""What records and regions can show of themselves: a mask as an array, a picture in a notebook."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import masks
from pad_pipeline.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

_LONGEST_SHOWN = 1024
"""Pixels of the longer side of a picture in a notebook."""


class ShowsMask:
    """A region, which knows its run lengths and for which size of image they are."""

    __slots__ = ()

    if TYPE_CHECKING:
        tag: str
        rle_mask: str
        size: tuple[int, int] | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the region, (height, width) bool of the image.

        Raises `UserError` where the record was read without its masks, the mask is damaged, or the
        region was made by hand without a size.
        """
        if self.size is None or not self.rle_mask:
            why = "its size" if self.size is None else "its mask: it was read without masks"
            raise UserError(f"the region {self.tag!r} does not know {why}")
        try:
            return masks.decode(self.rle_mask, *self.size)
        except ValueError as error:
            raise UserError(f"the mask of {self.tag!r} is damaged: {error}") from error


class ShowsPicture:
    """A record, which knows where its image is."""

    __slots__ = ()

    if TYPE_CHECKING:
        width: int
        height: int

    def plot(self, image: Any = None, *, scale: float | None = None) -> Image.Image:
        """A picture of the image with its masks, boxes and tags; see `pad_pipeline.plot`."""
        import pad_pipeline  # what draws lies above records: the front page knows where

        return pad_pipeline.plot(cast(Any, self), image, scale=scale)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of the record; None where there is no picture to draw on."""
        longest = max(self.width, self.height, 1)
        try:
            picture = self.plot(
                scale=_LONGEST_SHOWN / longest if longest > _LONGEST_SHOWN else None
            )
        except UserError:
            return None
        png = io.BytesIO()
        picture.save(png, "PNG")
        return png.getvalue()
