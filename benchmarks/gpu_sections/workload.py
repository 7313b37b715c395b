"""The images and tags that the rows run on: seeded sizes, JPEG files, own tags for each image."""

from __future__ import annotations

import io
import json
import random
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal

import full_size_models
import numpy as np
from PIL import Image

from pad_pipeline.models.protocols import Tagger
from pad_pipeline.models.ram.config import RELEASED_TAGS, read_tags
from pad_pipeline.records import Tag
from pad_pipeline.scenes.generator import KINDS, generate_scene

Mixture = Literal["uniform", "coco", "web"]
"""Which sizes the images have; sizes.json holds them and where they are from."""

_CANVAS = 1700
_SCALE_OF_TINY = 4


def source_of(mixture: Mixture) -> str:
    """Where the sizes of a mixture are from, or that they are assumed."""
    return _sizes()[mixture]["source"]


def sizes(mixture: Mixture, number: int, tiny: bool = False) -> list[tuple[int, int]]:
    """The (height, width) of the first images of a mixture, the list again and again."""
    listed = _sizes()[mixture]["sizes"]
    scale = _SCALE_OF_TINY if tiny else 1
    chosen = [listed[index % len(listed)] for index in range(number)]
    return [(max(height // scale, 16), max(width // scale, 16)) for width, height in chosen]


def pixels(mixture: Mixture, number: int, tiny: bool = False) -> list[np.ndarray]:
    """As many images, HWC uint8: parts of four canvases, no two alike; drawn scenes with `tiny`."""
    wanted = sizes(mixture, number, tiny)
    if tiny:  # what the embedded models know
        scenes = [Image.fromarray(generate_scene(index).image) for index in range(number)]
        return [np.asarray(s.resize(size[::-1])) for s, size in zip(scenes, wanted, strict=True)]
    canvas = _CANVAS
    drawn = [_canvas(canvas, seed) for seed in range(4)]
    places = random.Random(0)
    images = []
    for index, (height, width) in enumerate(wanted):
        top, left = places.randint(0, canvas - height), places.randint(0, canvas - width)
        images.append(drawn[index % 4][top : top + height, left : left + width].copy())
    return images


@cache
def jpegs(mixture: Mixture, number: int, tiny: bool = False) -> tuple[bytes, ...]:
    """The same as JPEG files of quality 90."""
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(_jpeg, pixels(mixture, number, tiny)))


@cache
def tag_list(tiny: bool = False) -> tuple[str, ...]:
    """RAM's 4,585 tags; the embedded models' twenty with `tiny`."""
    return tuple(KINDS) if tiny else read_tags(RELEASED_TAGS)


def own_tags(image: np.ndarray, tiny: bool = False, number: int | None = None) -> list[str]:
    """`number` tags that this image always gets and hardly another; else 5 to 15, or 3 to 8."""
    draw = random.Random(zlib.crc32(np.ascontiguousarray(image[: min(len(image), 32)]).tobytes()))
    known = tag_list(tiny)
    return draw.sample(known, number or (draw.randint(3, 8) if tiny else draw.randint(5, 15)))


class OwnTags:
    """Runs a tagger and answers with `own_tags`, because random weights find nothing."""

    def __init__(self, tagger: Tagger, tiny: bool, number: int | None = None) -> None:
        self._tagger, self._tiny, self._number = tagger, tiny, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tagger, name)

    def tag(self, images: Sequence[Any]) -> list[list[Tag]]:
        """The tagger's work, and the tags of each image."""
        self._tagger.tag(images)
        return [
            [Tag(name, 1.0) for name in own_tags(np.asarray(image), self._tiny, self._number)]
            for image in images
        ]


@cache
def _sizes() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "sizes.json").read_text(encoding="utf-8"))


@cache
def _canvas(side: int, seed: int) -> np.ndarray:
    return full_size_models.photo_like(side, side, seed=seed)


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
