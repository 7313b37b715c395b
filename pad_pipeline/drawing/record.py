"""Draws a record on its image: masks as tinted glass with a crisp rim, thin boxes, tag labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from pad_pipeline import masks
from pad_pipeline.drawing.colours import tag_colour
from pad_pipeline.drawing.labels import Rect, place_labels
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, Region

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SMOOTH = 2  # boxes and labels are drawn this many times larger, then reduced
_UNCROWDED = 8  # regions; with more of them labels become smaller
_PAD, _DOT = 0.5, 0.62  # of a label, in font sizes
_LABEL_INK = (20, 22, 28, 215)
_SCORE_GREY = (205, 208, 214)


@dataclass(frozen=True, slots=True)
class _Pen:
    """Sizes in output pixels: the masks' rim, the boxes' line, the labels' letters."""

    rim: float
    line: float
    font_size: int


@dataclass(frozen=True, slots=True)
class Label:
    """A region's label: the tag as far as there is room, its score, and where they go."""

    tag: str
    score: str
    rect: Rect


def draw_record(
    image: NDArray[np.uint8],
    record: PadRecord,
    *,
    opacity: float = 0.36,
    scale: float | None = None,
    boxes: bool = True,
    labels: bool = True,
    font_size: int | None = None,
) -> Image.Image:
    """An RGB picture of the record's regions on `image`, (H, W, 3) uint8 RGB.

    `opacity` is that of the masks' tint, `scale` the output pixels per image pixel: by default 1,
    and more for images so small that labels would cover them. A region's colour depends on its tag
    alone, small regions are drawn over large ones, and labels stay inside the picture and keep off
    each other where there is room. `font_size` is in output pixels. Raises `UserError` where the
    image is not of the record's size or a mask does not fit it.
    """
    height, width = image.shape[:2]
    if (width, height) != (record.width, record.height):
        raise UserError(
            f"the record of {record.image_id} is for {record.width}x{record.height} pixels, but "
            f"the image has {width}x{height}: it is another image, or it was changed since"
        )
    if scale is None:
        scale = max(1.0, min(480 / min(width, height), 1280 / max(width, height)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pen = _pen(size, len(record.labels), font_size)
    canvas = Image.fromarray(image)
    if size != canvas.size:
        canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(canvas).astype(np.float32)
    by_area = sorted(record.labels, key=lambda region: -region.area)
    for region in by_area:
        _tint(pixels, _decode(record, region), tag_colour(region.tag), opacity, scale, pen.rim)
    canvas = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    if boxes:
        canvas = _draw_boxes(canvas, by_area, scale, pen)
    if labels:
        canvas = _draw_labels(canvas, by_area, scale, pen)
    return canvas


def draw_layer(record: PadRecord, region: Region, scale: float) -> tuple[Image.Image, Image.Image]:
    """What `draw_record` lays over an image for one mask: its tint, opaque, and its rim.

    Two RGBA pictures of the image's shape, `scale` output pixels per image pixel, transparent
    elsewhere; the tint takes the opacity that it is shown with. Raises `UserError` where the mask
    does not fit the record.
    """
    size = (max(1, round(record.width * scale)), max(1, round(record.height * scale)))
    pen = _pen(size, len(record.labels), None)
    layers = [np.zeros((size[1], size[0], 4), dtype=np.uint8) for _ in range(2)]
    found = _glass(_decode(record, region), (size[1], size[0]), scale, pen.rim)
    if found is not None:
        y0, x0, cover, edge, halo = found
        fill, rim = (layer[y0 : y0 + cover.shape[0], x0 : x0 + cover.shape[1]] for layer in layers)
        fill[..., :3] = tag_colour(region.tag)
        fill[..., 3] = np.rint(255 * cover)
        rim[edge > 0, :3] = tag_colour(region.tag)
        rim[..., 3] = np.rint(255 * np.maximum(0.95 * edge, halo))
    return Image.fromarray(layers[0]), Image.fromarray(layers[1])


@lru_cache(maxsize=64)
def load_font(size: int) -> Font:
    """Pillow's built-in outline font at `size` pixels."""
    return ImageFont.load_default(size)


def elide(text: str, font: Font, width: float) -> str:
    """`text`, shortened with "…" at the end so that it is at most `width` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1].rstrip()
    return text + "…"


def font_size_for(size: tuple[int, int], num_regions: int) -> int:
    """Height of the labels' letters in a picture of so many pixels and regions."""
    crowded = min(1.0, (_UNCROWDED / max(num_regions, 1)) ** 0.3)
    return int(min(max(round(min(size) / 32 * crowded), 11), 26))


def _pen(size: tuple[int, int], num_regions: int, font_size: int | None) -> _Pen:
    letters = font_size or font_size_for(size, num_regions)
    return _Pen(rim=max(1.5, letters / 7), line=max(1.0, letters / 9), font_size=letters)


def _decode(record: PadRecord, region: Region) -> NDArray[np.bool_]:
    try:
        return masks.decode(region.rle_mask, record.height, record.width)
    except ValueError as error:
        raise UserError(
            f"the mask of {region.tag!r} in {record.image_id} cannot be drawn: {error}; "
            "`pad-pipeline validate` lists such records"
        ) from error


def _tint(
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


def _draw_boxes(canvas: Image.Image, regions: list[Region], scale: float, pen: _Pen) -> Image.Image:
    layer = Image.new("RGBA", (canvas.width * _SMOOTH, canvas.height * _SMOOTH))
    draw = ImageDraw.Draw(layer)
    for region in regions:
        x0, y0, x1, y1 = (_SMOOTH * value for value in shown_box(region, scale, canvas.size))
        radius = min(_SMOOTH * pen.font_size / 3, (x1 - x0) / 2, (y1 - y0) / 2)
        outline = (*tag_colour(region.tag), 235)
        draw.rounded_rectangle(
            (x0, y0, x1, y1), radius, outline=outline, width=round(_SMOOTH * pen.line)
        )
    layer = layer.reduce(_SMOOTH)
    return Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")


def _draw_labels(
    canvas: Image.Image, regions: list[Region], scale: float, pen: _Pen
) -> Image.Image:
    font = load_font(pen.font_size)
    pad, dot = pen.font_size * _PAD, pen.font_size * _DOT
    places = place_region_labels(regions, scale, canvas.size, pen.font_size)

    layer = Image.new("RGBA", (canvas.width * _SMOOTH, canvas.height * _SMOOTH))
    draw = ImageDraw.Draw(layer)
    for region, label in zip(regions, places, strict=True):
        x0, y0, x1, y1 = (_SMOOTH * value for value in label.rect)
        draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), (y1 - y0) / 2, fill=_LABEL_INK)
        centre, radius = (y0 + y1) / 2, _SMOOTH * dot / 2
        left = x0 + _SMOOTH * pad
        draw.ellipse(
            (left, centre - radius, left + 2 * radius, centre + radius), fill=tag_colour(region.tag)
        )
    canvas = Image.alpha_composite(canvas.convert("RGBA"), layer.reduce(_SMOOTH)).convert("RGB")
    draw = ImageDraw.Draw(canvas)
    for label in places:
        x0, y0, _, y1 = label.rect
        x, middle = x0 + pad + dot + 0.7 * pad, (y0 + y1) / 2
        draw.text((x, middle), label.tag, "white", font, anchor="lm")
        x += font.getlength(label.tag) + 0.7 * pad
        draw.text((x, middle), label.score, _SCORE_GREY, font, anchor="lm")
    return canvas


def place_region_labels(
    regions: Sequence[Region], scale: float, size: tuple[int, int], font_size: int
) -> list[Label]:
    """The regions' labels in a picture of `size` (width, height), `scale` times the image's."""
    font = load_font(font_size)
    pad, dot = font_size * _PAD, font_size * _DOT
    height = round(font_size * 1.62)
    texts: list[tuple[str, str]] = []
    sizes: list[tuple[float, float]] = []
    for region in regions:
        score = f"{region.score:.2f}"
        fixed = 2 * pad + dot + 2 * pad * 0.7 + font.getlength(score)
        tag = elide(region.tag, font, size[0] - fixed)
        texts.append((tag, score))
        sizes.append((min(fixed + font.getlength(tag), size[0]), height))
    boxes = [shown_box(region, scale, size) for region in regions]
    places = place_labels(boxes, sizes, *size)
    return [Label(*text, rect) for text, rect in zip(texts, places, strict=True)]


def shown_box(region: Region, scale: float, size: tuple[int, int]) -> Rect:
    """The region's box in output pixels, cut to the picture; upright also where it is damaged."""
    x0, y0, x1, y1 = (scale * value if np.isfinite(value) else 0.0 for value in region.bbox)
    left, right = sorted((min(max(x0, 0.0), size[0] - 1.0), min(max(x1, 0.0), size[0] - 1.0)))
    top, bottom = sorted((min(max(y0, 0.0), size[1] - 1.0), min(max(y1, 0.0), size[1] - 1.0)))
    return left, top, right, bottom
