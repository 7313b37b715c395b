"""Where the labels of boxes go: inside the picture, off each other, off what they would hide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

_GAP = 2.0
_ORDER_COST = 0.02
_OVERLAP_COST = 20.0
_HIDING_COST = 0.6


def place_labels(
    boxes: Sequence[Rect], sizes: Sequence[tuple[float, float]], width: float, height: float
) -> list[Rect]:
    """A place for each label of the given (width, height) at its box, in a picture of that size.

    Each stays inside the picture (whole, as long as it is no larger). Labels do not lie on top of
    each other where there is a free place at or near the box, and rather keep off the other boxes.
    """
    placed: list[Rect] = []
    for index, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        others = [other for number, other in enumerate(boxes) if number != index]
        best, best_cost = None, float("inf")
        for order, (x, y) in enumerate(_candidates(box, size)):
            rect = _inside(x, y, size, width, height)
            cost = _cost(rect, order, box, placed, others, (x, y))
            if cost < best_cost:
                best, best_cost = rect, cost
        assert best is not None
        placed.append(best)
    return placed


def _candidates(box: Rect, size: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Upper left corners to try, the best first."""
    (x0, y0, x1, y1), (w, h) = box, size
    left, right, middle = x0, x1 - w, (x0 + x1 - w) / 2
    for y in (y0 - h - _GAP, y1 + _GAP, y0 + _GAP, y1 - h - _GAP):
        for x in (left, right, middle):
            yield x, y
    for step in range(1, 7):  # further and further off, where many boxes share a corner
        yield left, y0 - _GAP - h - step * (h + _GAP)
        yield left, y1 + _GAP + step * (h + _GAP)
        yield left, y0 + _GAP + step * (h + _GAP)
    for y in (y0, (y0 + y1 - h) / 2, y1 - h):
        yield x1 + _GAP, y
        yield x0 - w - _GAP, y


def _inside(x: float, y: float, size: tuple[float, float], width: float, height: float) -> Rect:
    x = max(0.0, min(x, width - size[0]))
    y = max(0.0, min(y, height - size[1]))
    return x, y, x + size[0], y + size[1]


def _cost(
    rect: Rect,
    order: int,
    box: Rect,
    placed: Sequence[Rect],
    others: Sequence[Rect],
    wanted: tuple[float, float],
) -> float:
    area = max((rect[2] - rect[0]) * (rect[3] - rect[1]), 1e-6)
    covered = sum(_overlap(rect, other) for other in placed) / area
    # Another thing hidden is worse than the label's own, whose corners are mostly background.
    hidden = sum(_overlap(rect, other) for other in others) / area
    hidden += 0.3 * _overlap(rect, box) / area
    moved = (abs(rect[0] - wanted[0]) + abs(rect[1] - wanted[1])) / (rect[3] - rect[1] + 1)
    return _ORDER_COST * order + _OVERLAP_COST * covered + _HIDING_COST * hidden + 0.1 * moved


def _overlap(a: Rect, b: Rect) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
