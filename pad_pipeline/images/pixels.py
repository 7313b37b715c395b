"""Images as people have them in Python, as RGB pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pad_pipeline.images.decode import decode_image, rgb_of


def pixels_of(image: NDArray[np.uint8] | Image.Image | bytes) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an array, a picture of Pillow or the bytes of a file.

    An array is uint8: (H, W, 3), which stays as it is, (H, W) and (H, W, 1) of grey, or (H, W, 4)
    with transparency, which is put on white. A picture of Pillow is turned as its EXIF says.
    Raises `ValueError` for other arrays and `ImageError` for what cannot be decoded.
    """
    if isinstance(image, bytes):
        return decode_image(image)
    if isinstance(image, Image.Image):
        return rgb_of(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"the image is {image.dtype} of shape {image.shape}; expected uint8 (H, W, 3)"
        )
    if image.size == 0:
        raise ValueError(f"the image of shape {image.shape} has no pixel")
    if channels == 3:
        return image
    return rgb_of(Image.fromarray(image.reshape(image.shape[:2]) if channels == 1 else image))
