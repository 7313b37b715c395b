"""An image with its labels, as every format of labels is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pad_pipeline import storage
from pad_pipeline.given import GivenRegion
from pad_pipeline.sources.boxes import Problems
from pad_pipeline.sources.entries import as_captions, first_of

_MOST_PIXELS = 1 << 30  # more than any image has, and than masks can be of

NOT_READ = "labels that cannot be read"
NOT_A_SHAPE = "labels of a kind that has no mask or box"
TOO_FEW_POINTS = "polygons of fewer than three points"
"""Reasons that several formats have."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image and its regions.

    `uri` is where the labels say that the image lies, `size` its (width, height) in pixels, None
    where they do not say it.
    """

    image_id: str
    uri: str
    size: tuple[int, int] | None
    regions: tuple[GivenRegion, ...]
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """The images of a source of labels, in its order, and how many they are."""

    num_images: int
    images: Iterator[LabelledImage]


Reader = Callable[[str, str | None, Problems], Labels]
"""Reads a source, with the place of the images where one is given; counts what it leaves out."""


def stated_size(width: Any, height: Any) -> tuple[int, int]:
    """The size of an image as a file states it; `ValueError` or `TypeError` where it is none."""
    size = (int(width), int(height))
    if min(size) < 1 or size[0] * size[1] > _MOST_PIXELS:
        raise ValueError(f"{size[0]}x{size[1]} pixels are no size of an image")
    return size


def captions_in(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions that stand with an image under `captions` or `caption`; empty ones are none."""
    return tuple(filter(None, as_captions(first_of(entry, ("captions", "caption")))))


def folder_of(source: str, names: Iterable[str]) -> str:
    """Where the images of a file of labels lie: beside it, or in `images` beside it.

    The first of the two that has one of `names`; the file's own folder where none does.
    """
    folder = source.rpartition("/")[0]
    places = (folder, storage.join(folder, "images"))
    samples = list(names)
    return next(
        (
            place
            for place in places
            if any(storage.exists(storage.join(place, name)) for name in samples)
        ),
        folder,
    )
