"""Masks over a picture: tinted glass with a crisp rim and a thin dark line around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage


def tint_mask(
    pixels: NDArray[np.float32],
    mask: NDArray[np.bool_],
    colour: tuple[int, int, int],
    opacity: float,
    scale: float,
    rim: float,
) -> None:
    """Lays the mask's tint, its rim and a thin dark line around it over `pixels`, in place."""
    found = _glass(mask, pixels.shape[:2], scale, rim)
    if found is None:
        return
    y0, x0, cover, edge, halo = found
    alpha = opacity * cover
    alpha += (0.95 - alpha) * edge
    part = pixels[y0 : y0 + cover.shape[0], x0 : x0 + cover.shape[1]]
    part *= 1 - halo[..., None]
    part += alpha[..., None] * (np.asarray(colour, dtype=np.float32) - part)


def mask_layers(
    mask: NDArray[np.bool_],
    colour: tuple[int, int, int],
    size: tuple[int, int],
    scale: float,
    rim: float,
) -> tuple[Image.Image, Image.Image]:
    """A mask's tint, opaque, and its rim as two RGBA pictures of `size` (width, height)."""
    layers = [np.zeros((size[1], size[0], 4), dtype=np.uint8) for _ in range(2)]
    found = _glass(mask, (size[1], size[0]), scale, rim)
    if found is not None:
        y0, x0, cover, edge, halo = found
        fill, line = (layer[y0 : y0 + cover.shape[0], x0 : x0 + cover.shape[1]] for layer in layers)
        fill[..., :3] = colour
        fill[..., 3] = np.rint(255 * cover)
        line[edge > 0, :3] = colour
        line[..., 3] = np.rint(255 * np.maximum(0.95 * edge, halo))
    return Image.fromarray(layers[0]), Image.fromarray(layers[1])


def _glass(
    mask: NDArray[np.bool_], size: tuple[int, int], scale: float, rim: float
) -> tuple[int, int, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None:
    """Where a mask lies in a picture of `size` (height, width), and what of it to draw there.

    (top, left, cover, edge, halo), the last three (h, w) float32, 0–1: the mask's coverage, its rim
    inside of it and the dark line around it. None for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = size
    margin = 3 + 2 / scale
    top, bottom = max(0, int(rows[0] - margin)), min(mask.shape[0], int(rows[-1] + margin) + 1)
    left, right = (
        max(0, int(columns[0] - margin)),
        min(mask.shape[1], int(columns[-1] + margin) + 1),
    )
    y0, y1 = round(top * height / mask.shape[0]), round(bottom * height / mask.shape[0])
    x0, x1 = round(left * width / mask.shape[1]), round(right * width / mask.shape[1])
    cover = _resize_mask(mask[top:bottom, left:right], (max(1, x1 - x0), max(1, y1 - y0)), scale)
    # Beyond the picture's edge the mask goes on, so that no rim runs along the edge.
    padded = np.pad(cover > 0.5, 8, mode="edge")
    inside = _distance(padded)[8:-8, 8:-8]
    outside = _distance(~padded)[8:-8, 8:-8]
    edge = np.clip(rim + 1 - inside, 0, 1) * cover
    halo = np.clip(2 - outside, 0, 1) * (1 - cover) * 0.5
    return y0, x0, cover, edge, halo


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Of every pixel of the mask its distance to the nearest outside it, in pixels."""
    return np.asarray(ndimage.distance_transform_edt(mask)).astype(np.float32)


def _resize_mask(
    mask: NDArray[np.bool_], size: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """Coverage 0–1 at the output's size; enlarged masks get smooth instead of stepped outlines."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if scale <= 1:
        grey = np.asarray(picture.resize(size, Image.Resampling.BOX))
        return grey.astype(np.float32) / np.float32(255)
    radius = 0.45 * scale
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))).astype(np.float32)
    steepness = np.float32(1.6 * scale / 255)  # of the blurred edge: one output pixel wide again
    return np.clip((soft - np.float32(127.5)) * steepness + np.float32(0.5), 0, 1)
