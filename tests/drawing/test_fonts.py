"""Texts that are cut to a width."""

from __future__ import annotations

from pad_pipeline.drawing.fonts import elide, load_font


def test_text_that_is_too_long_ends_in_an_ellipsis():
    font = load_font(14)
    text = "a caption that is far too long for its picture"
    short = elide(text, font, 120)
    assert short.endswith("…")
    assert font.getlength(short) <= 120
    assert elide("apple", font, 120) == "apple"
