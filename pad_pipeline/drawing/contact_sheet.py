"""Many annotated pictures on one page: rows of equal height, each on a card with its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pad_pipeline.drawing.fonts import Font, elide, load_font
from pad_pipeline.drawing.record import draw_record
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord

_BACKGROUND = (243, 242, 238)
_CARD = (255, 255, 255)
_INK = (58, 60, 66)
_SHADOW_OPACITY = 0.13
_ASPECT = 4 / 3  # of a nominal cell
_MAX_LINES = 3
_SMOOTH = 4


@dataclass(frozen=True, slots=True)
class _Style:
    """All sizes in pixels, in proportion to the width of a cell."""

    margin: int
    gap: int
    radius: int
    pad: int
    font: Font
    line_height: int
    label_size: int


def contact_sheet(
    items: Sequence[tuple[NDArray[np.uint8], PadRecord]], columns: int = 4, cell: int = 420
) -> Image.Image:
    """The pictures in reading order, annotated, each with its caption below.

    `items` are (H, W, 3) uint8 RGB images with their records. Pictures keep their shape: each row
    is filled exactly by giving its pictures one height, so a row holds about `columns` of them,
    each about `cell` pixels wide. A caption that is too long ends in "…". Raises `UserError` where
    there is nothing to show, and as `draw_record` does.
    """
    if not items:
        raise UserError("there is no image to put on the contact sheet")
    if columns < 1 or cell < 64:
        raise UserError(
            f"expected at least 1 column of at least 64 pixels, found {columns} of {cell}"
        )
    style = _style(cell)
    width = columns * cell + (columns - 1) * style.gap
    aspects = [image.shape[1] / image.shape[0] for image, _ in items]
    rows = [
        _draw_row(items[start:end], height, style, width)
        for start, end, height in _rows(aspects, width, style.gap, cell / _ASPECT)
    ]
    total = sum(row.height for row in rows) + (len(rows) - 1) * style.gap
    sheet = Image.new("RGB", (width + 2 * style.margin, total + 2 * style.margin), _BACKGROUND)
    shadows = Image.new("L", sheet.size)
    top = style.margin
    for row in rows:  # the shadows of all cards first: none may fall on a neighbour
        shadows.paste(row.getchannel("A"), (style.margin, top + style.radius // 3))
        top += row.height + style.gap
    soft = shadows.filter(ImageFilter.GaussianBlur(style.radius * 0.7))
    dark = Image.new("RGB", sheet.size, (40, 36, 28))
    sheet.paste(dark, mask=soft.point(lambda value: int(value * _SHADOW_OPACITY)))
    top = style.margin
    for row in rows:
        sheet.paste(row, (style.margin, top), row)
        top += row.height + style.gap
    return sheet


def _style(cell: int) -> _Style:
    letters = max(10, round(cell / 27))
    return _Style(
        margin=round(cell / 11),
        gap=round(cell / 18),
        radius=round(cell / 30),
        pad=round(cell / 28),
        font=load_font(letters),
        line_height=round(letters * 1.36),
        label_size=max(9, round(cell / 32)),
    )


def _rows(
    aspects: Sequence[float], width: int, gap: int, target: float
) -> list[tuple[int, int, float]]:
    """(first, end, picture height) of each row: as many rows as suit `target`, evenly high.

    Every row fills `width`, but for a last one whose pictures would become far too large.
    """
    count, total = len(aspects), sum(aspects)
    num_rows = max(1, round(total * target / width))
    even = (num_rows * (width + gap) - gap * count) / total
    best: list[tuple[float, int]] = [(0.0, 0)] + [(float("inf"), 0)] * count
    for end in range(1, count + 1):
        for start in range(end - 1, -1, -1):
            height = _height(aspects[start:end], width, gap)
            cost = best[start][0] + (height / even - 1) ** 2
            if cost < best[end][0]:
                best[end] = (cost, start)
            if height < even / 3:
                break
    rows: list[tuple[int, int, float]] = []
    end = count
    while end:
        start = best[end][1]
        height = _height(aspects[start:end], width, gap)
        if end == count and height > 1.4 * target:
            height = target
        rows.append((start, end, height))
        end = start
    return rows[::-1]


def _height(aspects: Sequence[float], width: int, gap: int) -> float:
    return (width - gap * (len(aspects) - 1)) / sum(aspects)


def _draw_row(
    items: Sequence[tuple[NDArray[np.uint8], PadRecord]], height: float, style: _Style, width: int
) -> Image.Image:
    """One row of cards as RGBA, transparent between them."""
    # Whole pixels at both ends of each picture, so that the row ends where the others do.
    aspects = [image.shape[1] / image.shape[0] for image, _ in items]
    ends = np.cumsum([aspect * height + style.gap for aspect in aspects])
    lefts = [0, *(round(end) for end in ends[:-1])]
    widths = [
        max(1, min(round(end - style.gap), width) - left)
        for left, end in zip(lefts, ends, strict=True)
    ]
    captions = [
        wrap(_caption(record), style.font, card - 2 * style.pad, _MAX_LINES)
        for (_, record), card in zip(items, widths, strict=True)
    ]
    lines = max(map(len, captions))
    text_height = lines * style.line_height + round(1.7 * style.pad) if lines else 0
    picture_height = max(1, round(height))
    row = Image.new("RGBA", (width, picture_height + text_height))
    for (image, record), left, card_width, caption in zip(
        items, lefts, widths, captions, strict=True
    ):
        scale = picture_height / image.shape[0]
        picture = draw_record(image, record, scale=scale, font_size=style.label_size)
        card = Image.new("RGB", (card_width, row.height), _CARD)
        card.paste(picture.resize((card_width, picture_height)), (0, 0))
        draw = ImageDraw.Draw(card)
        for number, line in enumerate(caption):
            y = picture_height + round(0.8 * style.pad) + (number + 0.5) * style.line_height
            draw.text((style.pad, y), line, _INK, style.font, anchor="lm")
        row.paste(card, (left, 0), _rounded(card.size, style.radius))
    return row


def wrap(text: str, font: Font, width: float, max_lines: int) -> list[str]:
    """At most `max_lines` lines no wider than `width` pixels; what does not fit ends in "…"."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < max_lines:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line += " " + words.pop(0)
        lines.append(line)
    if words:
        lines[-1] = " ".join([lines[-1], *words])
    return [elide(line, font, width) for line in lines]


def _caption(record: PadRecord) -> str:
    return record.caption or ", ".join(tag.tag for tag in record.tags)


def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """An "L" mask with round corners."""
    mask = Image.new("L", size, 255)
    large = Image.new("L", (2 * radius * _SMOOTH, 2 * radius * _SMOOTH))
    ImageDraw.Draw(large).ellipse((0, 0, large.width - 1, large.height - 1), fill=255)
    round_one = large.reduce(_SMOOTH)
    for x, right in ((0, False), (size[0] - radius, True)):
        for y, lower in ((0, False), (size[1] - radius, True)):
            corner = (radius * right, radius * lower, radius * (right + 1), radius * (lower + 1))
            mask.paste(round_one.crop(corner), (x, y))
    return mask
