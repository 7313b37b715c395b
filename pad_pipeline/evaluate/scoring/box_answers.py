"""Boxes that a model writes as text, read as lmms-eval reads them and more strictly."""

from __future__ import annotations

import re

Box = tuple[float, float, float, float]

_NUMBER = r"(\d+(?:\.\d+)?)"
_BOX = re.compile(r"\[" + r",\s*".join([_NUMBER] * 4) + r"\]")


def read_first_box(text: str) -> Box | None:
    """The first `[a, b, c, d]` anywhere in the text, whatever its numbers; None without one.

    lmms-eval 0.7.3's rule: no sign, no leading ".", no exponent, no other brackets.
    """
    found = _BOX.search(text)
    return None if found is None else _numbers(found)


def read_only_box(text: str) -> Box | None:
    """The box of a text that holds exactly one, within 0 to 1 and with an area; else None."""
    found = list(_BOX.finditer(text))
    if len(found) != 1:
        return None
    left, top, right, bottom = box = _numbers(found[0])
    return box if 0 <= left < right <= 1 and 0 <= top < bottom <= 1 else None


def undo_padding(box: Box, width: int, height: int) -> Box:
    """A box relative to the square that LLaVA pads an image to, relative to the image itself.

    The padding is taken as halves of the difference, exactly.
    """
    side = max(width, height)
    across, down = (side - width) / 2, (side - height) / 2
    left, top, right, bottom = (edge * side for edge in box)
    return (
        (left - across) / width,
        (top - down) / height,
        (right - across) / width,
        (bottom - down) / height,
    )


def iou(a: Box, b: Box) -> float:
    """Intersection over union; 0 where a box is turned inside out and where both are empty."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, across) * max(0.0, down)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (areas - shared) if areas > shared else 0.0


def _numbers(found: re.Match[str]) -> Box:
    a, b, c, d = (float(number) for number in found.groups())
    return a, b, c, d
