"""Labels of boxes: tag and score on a dark pill, placed off each other and inside the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from pad_pipeline.drawing.boxes import SMOOTH, shown_box
from pad_pipeline.drawing.colours import Colour
from pad_pipeline.drawing.fonts import elide, load_font
from pad_pipeline.drawing.label_places import Rect, place_labels
from pad_pipeline.records import Region

_PAD, _DOT = 0.5, 0.62  # of a label, in font sizes
_INK = (20, 22, 28, 215)
_SCORE_GREY = (205, 208, 214)


@dataclass(frozen=True, slots=True)
class Label:
    """A region's label: the tag as far as there is room, its score, and where they go."""

    tag: str
    score: str
    rect: Rect


def draw_labels(
    canvas: Image.Image,
    regions: Sequence[Region],
    colours: Mapping[str, Colour],
    scale: float,
    font_size: int,
) -> Image.Image:
    """The picture with the regions' labels, whose letters are `font_size` output pixels high.

    `colours` is by tag.
    """
    font = load_font(font_size)
    pad, dot = font_size * _PAD, font_size * _DOT
    places = place_region_labels(regions, scale, canvas.size, font_size)

    layer = Image.new("RGBA", (canvas.width * SMOOTH, canvas.height * SMOOTH))
    draw = ImageDraw.Draw(layer)
    for region, label in zip(regions, places, strict=True):
        x0, y0, x1, y1 = (SMOOTH * value for value in label.rect)
        draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), (y1 - y0) / 2, fill=_INK)
        centre, radius = (y0 + y1) / 2, SMOOTH * dot / 2
        left = x0 + SMOOTH * pad
        draw.ellipse(
            (left, centre - radius, left + 2 * radius, centre + radius), fill=colours[region.tag]
        )
    canvas = Image.alpha_composite(canvas.convert("RGBA"), layer.reduce(SMOOTH)).convert("RGB")
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
    texts = [(region.tag, f"{region.score:.2f}") for region in regions]
    return place_texts(
        texts, [shown_box(region, scale, size) for region in regions], size, font_size
    )


def place_texts(
    texts: Sequence[tuple[str, str]], boxes: Sequence[Rect], size: tuple[int, int], font_size: int
) -> list[Label]:
    """Labels of boxes in a picture of `size`: of each a tag and what stands behind it."""
    font = load_font(font_size)
    pad, dot = font_size * _PAD, font_size * _DOT
    height = round(font_size * 1.62)
    shown: list[tuple[str, str]] = []
    sizes: list[tuple[float, float]] = []
    for tag, score in texts:
        fixed = 2 * pad + dot + 2 * pad * 0.7 + font.getlength(score)
        tag = elide(tag, font, size[0] - fixed)
        shown.append((tag, score))
        sizes.append((min(fixed + font.getlength(tag), size[0]), height))
    places = place_labels(boxes, sizes, *size)
    return [Label(*text, rect) for text, rect in zip(shown, places, strict=True)]
