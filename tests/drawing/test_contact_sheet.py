"""Contact sheets: every picture, captions below, the whole width."""

from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.drawing.contact_sheet import contact_sheet, wrap
from pad_pipeline.drawing.fonts import load_font
from pad_pipeline.errors import UserError
from tests.dataset.example import HEIGHT, WIDTH, ellipse, record, region

GREY = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)


def test_captions_are_wrapped_and_end_in_an_ellipsis():
    font = load_font(14)
    text = "a caption that is far too long for its picture"
    lines = wrap(text, font, 100, 2)
    assert len(lines) == 2
    assert all(font.getlength(line) <= 100 for line in lines)
    assert lines[1].endswith("…")
    assert " ".join(wrap(text, font, 100, 9)) == text
    assert wrap("", font, 100, 2) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_a_contact_sheet_fills_its_width_with_every_picture(count):
    sizes = [(192, 256), (224, 224), (168, 288), (256, 192)]
    items = []
    for number in range(count):
        height, width = sizes[number % 4]
        mask = ellipse(width / 2, height / 2, 50, 40, width, height)
        one = record(number, [region("apple", mask)], width=width, height=height)
        items.append((np.full((height, width, 3), 20 + 15 * number, np.uint8), one))
    sheet = contact_sheet(items, columns=3, cell=200)
    pixels = np.asarray(sheet)
    margin = round(200 / 11)
    assert sheet.width == 3 * 200 + 2 * round(200 / 18) + 2 * margin
    assert np.ptp(pixels[: margin // 3], axis=(0, 1)).max() <= 12
    for number in range(count):
        assert (pixels == 20 + 15 * number).all(axis=2).sum() > 2000
    if count > 2:
        paper = (np.abs(pixels.astype(int) - pixels[0, 0]).max(axis=2) <= 30).all(axis=0)
        used = np.flatnonzero(~paper)
        assert abs(used[0] - margin) <= 1
        assert abs(used[-1] + 1 - (sheet.width - margin)) <= 1


def test_an_empty_or_tiny_contact_sheet_is_refused():
    with pytest.raises(UserError, match="no image"):
        contact_sheet([])
    with pytest.raises(UserError, match="at least 64 pixels, found 3 of 9"):
        contact_sheet([(GREY, record(0))], columns=3, cell=9)
