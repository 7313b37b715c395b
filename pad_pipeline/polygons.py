"""Polygons around masks, exactly along the pixels' edges, and what other programs want of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.float64]
"""(N, 2) x, y in pixels of the image; the first point follows the last."""


def trace(mask: NDArray[np.bool_]) -> list[Loop]:
    """The boundaries of an (H, W) mask: outer ones clockwise as seen, those of holes the other way.

    Points are corners of pixels, so filling the polygons gives the mask back. Pixels that touch
    at a corner only belong to different parts. Outer boundaries come first, the largest at the
    beginning; empty for an empty mask.
    """
    x, y, horizontal, vertical = _corners(mask)
    loops: list[Loop] = []
    seen = np.zeros(len(x), dtype=bool)
    along, across = horizontal.tolist(), vertical.tolist()
    for start in range(len(x)):
        if seen[start]:
            continue
        nodes, node = [], start
        while True:
            nodes += [node, along[node]]
            node = across[along[node]]
            if node == start:
                break
        seen[nodes] = True
        loop = np.stack([x[nodes], y[nodes]], axis=1).astype(np.float64)
        first, second = loop[0].astype(int), loop[1].astype(int)
        below = first[1] < mask.shape[0] and mask[first[1], min(first[0], second[0])]
        rightwards = second[0] > first[0]
        loops.append(loop if bool(below) == bool(rightwards) else loop[::-1])
    return sorted(loops, key=lambda loop: -signed_area(loop))


def _corners(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The boundary's corners x, y, and of each the corner at the other end of its two edges.

    Where two pixels touch at a corner there are two nodes, one for each of them.
    """
    padded = np.pad(mask, 1)
    above_left, above = padded[:-1, :-1], padded[:-1, 1:]
    left, here = padded[1:, :-1], padded[1:, 1:]
    odd = above_left ^ above ^ left ^ here
    falling = (
        above_left & here & ~above & ~left
    )  # pixels touch from the upper left to the lower right
    rising = above & left & ~above_left & ~here
    y, x = np.nonzero(odd | falling | rising)
    double = (falling | rising)[y, x]
    nodes = np.repeat(np.arange(len(x)), 1 + double)
    second = np.concatenate([[False], nodes[1:] == nodes[:-1]]) if len(nodes) else double
    x, y, is_rising = x[nodes], y[nodes], rising[y, x][nodes]
    # The first of two nodes ends the edge to its left; that pixel's other edge goes up where the
    # pixels fall, and down where they rise.
    horizontal = _partners(np.lexsort((second, x, y)))
    vertical = _partners(np.lexsort((second ^ is_rising, y, x)))
    return x, y, horizontal, vertical


def _partners(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Corners along a line belong together two by two."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def signed_area(loop: Loop) -> float:
    """In pixels; positive for outer boundaries, negative for holes."""
    x, y = loop.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def simplify(loop: Loop, tolerance: float) -> Loop:
    """The loop with fewer points, none of those left out farther than `tolerance` from it.

    By Douglas and Peucker (1973), from the two points that are farthest apart on. A loop that would
    keep less than three points stays as it is.
    """
    if tolerance <= 0 or len(loop) <= 4:
        return loop
    far = int(np.argmax(((loop - loop[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([loop, loop[:1]])
    kept = {0, far, len(loop)}
    spans = [(0, far), (far, len(loop))]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        inner = closed[start + 1 : end]
        direction = closed[end] - closed[start]
        offsets = inner - closed[start]
        along = np.clip(offsets @ direction / max(direction @ direction, 1e-12), 0, 1)
        distances = ((offsets - along[:, None] * direction) ** 2).sum(axis=1)
        worst = int(distances.argmax())
        if distances[worst] > tolerance**2:
            middle = start + 1 + worst
            kept.add(middle)
            spans += [(start, middle), (middle, end)]
    points = sorted(kept - {len(loop)})
    return loop[points] if len(points) >= 3 else loop


def join(loops: list[Loop]) -> Loop:
    """All loops of one mask as a single one, by bridges of no width between the nearest points.

    For formats that have one polygon for an object. Holes stay holes where a program fills by
    parity or by winding number.
    """
    joined = loops[0]
    for loop in loops[1:]:
        distances = ((joined[:, None] - loop[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        way = np.concatenate([loop[there:], loop[: there + 1]])
        joined = np.concatenate([joined[: here + 1], way, joined[here:]])
    return joined
