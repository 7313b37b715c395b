"""The size of Grounding DINO's input, and what it is padded to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD

Size = tuple[int, int]
"""Height and width."""

PadTo = Literal["own", "canvases"]
"""What images are padded to: nothing, or the next of a few canvases."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the detector's input; sides in pixels, mean and std of RGB in 0–1."""

    shortest_side: int = 800
    longest_side: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def resized_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """The (height, width) of an image as the detector's input, by the original's rounding.

    The shortest side becomes `shortest`, or less where the longest would pass `longest`. So thin an
    image that the original fails on it (its short side would round to 0) gets 1 pixel there and at
    most `longest` on the other side.
    """
    low, high = min(height, width), max(height, width)
    size = shortest
    if high / low * shortest > longest:
        size = round(longest * low / high)
    if size == low:
        return height, width
    other = int(size * high / low) if size else min(high // low, longest)
    size = max(size, 1)
    return (size, other) if height <= width else (other, size)


def canvas_of(size: Size, settings: Preprocessing) -> Size:
    """The smallest of a dozen canvases that holds an image of (height, width) `size`.

    Its short side is the model's shortest, or half of it for thin images. Its long side is one of
    five from the shortest to the longest, the last with one in a hundred to spare, as rounding may
    pass the longest; it is the image's own where it is larger still.
    """
    low, high = min(size), max(size)
    shortest, longest = settings.shortest_side, settings.longest_side
    steps = [round(shortest + step / 4 * (longest - shortest)) for step in range(4)]
    short = next((side for side in (-(-shortest // 2), shortest) if low <= side), low)
    long = next((side for side in (*steps, longest + longest // 100) if high <= side), high)
    return (short, long) if size[0] <= size[1] else (long, short)
