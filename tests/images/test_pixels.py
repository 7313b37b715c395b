"""Images as people have them in Python: arrays, pictures of Pillow, bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.images import ImageError, decode_image, pixels_of

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def test_arrays() -> None:
    assert pixels_of(RGB) is RGB
    grey = RGB[..., 0]
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(pixels_of(array), np.repeat(grey[..., None], 3, 2))
    clear = np.dstack([RGB, np.zeros_like(grey)])
    clear[0, 0, 3] = 255
    found = pixels_of(clear)
    assert (found[0, 0] == RGB[0, 0]).all()
    assert (found[1:] == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        RGB.astype(float),
        RGB[None],
        RGB[:, :, :2],
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(3, np.uint8),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"the image (is|of shape)"):
        pixels_of(array)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_a_picture_is_as_its_file(mode: str) -> None:
    picture = Image.fromarray(RGB).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800)
    if mode == "CMYK":  # which PNG does not have
        np.testing.assert_array_equal(pixels_of(picture), np.asarray(picture.convert("RGB")))
        return
    np.testing.assert_array_equal(pixels_of(picture), decode_image(encoded(picture)))


def test_a_picture_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(RGB), exif=exif)
    found = pixels_of(Image.open(io.BytesIO(data)))
    assert found.shape == (7, 5, 3)
    np.testing.assert_array_equal(found, decode_image(data))
    np.testing.assert_array_equal(pixels_of(data), found)


def test_a_picture_that_cannot_be_used_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="floating-point pixels have no known range"):
        pixels_of(Image.fromarray(np.zeros((3, 3), np.float32)))
    whole = encoded(Image.fromarray(np.tile(RGB, (40, 40, 1))))
    with pytest.raises(ImageError, match="cannot convert mode RGB"):
        pixels_of(Image.open(io.BytesIO(whole[: len(whole) // 2])))
