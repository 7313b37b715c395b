"""Small models with the protocols of the real ones, whose answers follow from the pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import (
    STAGE_NAMES,
    AnnotateConfig,
    DetectConfig,
    SegmentConfig,
    SuppressConfig,
    TagConfig,
)
from pad_pipeline.engine.plan import Pool, StageSpec
from pad_pipeline.engine.stages import (
    Decode,
    ModelStage,
    Seconds,
    detect_stage,
    segment_stage,
    suppress_stage,
    tag_stage,
)
from pad_pipeline.images import ImageLimits
from pad_pipeline.models.protocols import Boxes, Mask
from pad_pipeline.records import Tag


@dataclass
class FakeTagger:
    """Two tags for a bright image, one for a middling one, none for a dark one."""

    calls: list[int] = field(default_factory=list)
    broken: Callable[[np.ndarray], bool] = lambda image: False
    most_at_once: int = 10_000

    def tag(self, images: Sequence[np.ndarray]) -> list[list[Tag]]:
        self.calls.append(len(images))
        if len(images) > self.most_at_once:
            raise MemoryError(f"{len(images)} images are too many")
        if any(self.broken(image) for image in images):
            raise ValueError("this image breaks the tagger")
        found = []
        for image in images:
            brightness = float(image.mean()) / 255
            tags = [Tag("sky", brightness), Tag("sun hat", brightness / 2)]
            found.append(tags[: int(brightness * 3)])
        return found


class FakeDetector:
    """Two overlapping boxes for the first tag and one elsewhere for every further tag."""

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def detect(self, images: Sequence[np.ndarray], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        found = []
        for image, names in zip(images, tags, strict=True):
            height, width = image.shape[:2]
            rows = [[0, 0, width / 2, height / 2], [1, 0, width / 2, height / 2]]
            rows += [[width / 2, height / 2, width, height]] * (len(names) - 1)
            labels = (names[0], names[0], *names[1:])
            scores = np.linspace(0.9, 0.5, len(rows), dtype=np.float32)
            found.append(Boxes(np.asarray(rows, np.float32), scores, labels, num_prompts=1))
        return found


class FakeSegmenter:
    """The box itself as the mask."""

    max_images: int | None = None

    def segment(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[list[Mask]]:
        found = []
        for image, boxes in zip(images, boxes_xyxy, strict=True):
            height, width = image.shape[:2]
            of_image = []
            for x0, y0, x1, y1 in boxes.round().astype(int):
                mask = np.zeros((height, width), bool)
                mask[y0:y1, x0:x1] = True
                of_image.append(Mask(masks.encode(mask), height, width, int(mask.sum()), 0.75))
            found.append(of_image)
        return found


def decode(seconds: Seconds) -> Decode:
    """Decoding in this thread."""
    return Decode(ImageLimits(), seconds)


def options(seconds: Seconds) -> dict[str, Any]:
    """What the stages of the models have in common."""
    return {"batch_size": 4, "decode": decode(seconds), "seconds": seconds}


def build(name: str, seconds: Seconds) -> ModelStage:
    """One stage around its fake model."""
    match name:
        case "tag":
            return tag_stage(FakeTagger(), **options(seconds))
        case "detect":
            return detect_stage(FakeDetector(), **options(seconds))
        case "suppress":
            return suppress_stage(SuppressConfig(), seconds)
        case "segment":
            return segment_stage(FakeSegmenter(), **options(seconds))
    raise ValueError(name)


def build_all(seconds: Seconds) -> Chain:
    """All stages in one."""
    return Chain([build(name, seconds) for name in STAGE_NAMES])


POOL = Pool(1, 1, gpus=0.0, cpus=0.25)


def fused() -> list[StageSpec]:
    """The layout `fused` of the fake chain."""
    return [StageSpec(name="annotate", make=build_all, pool=POOL, keep_bytes=False)]


def pools() -> list[StageSpec]:
    """The layout `pools` of the fake chain."""
    return [
        StageSpec(name=name, make=partial(build, name), pool=POOL, keep_bytes=name != "segment")
        for name in STAGE_NAMES
    ]


def config(**changes: object) -> AnnotateConfig:
    """A config for runs that bring their own stages."""
    values: dict = {"chunk_size": 4, "rows_per_shard": 8, "device": "cpu", **changes}
    for name, kind in (("tag", TagConfig), ("detect", DetectConfig), ("segment", SegmentConfig)):
        values.setdefault(name, kind(model="fake"))
    return AnnotateConfig(**values)


def write_images(folder: Path, number: int) -> None:
    """Images of several sizes, from dark to bright."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        shade = round(255 * index / max(number - 1, 1))
        size = (24 + index % 3 * 8, 20 + index % 2 * 12)
        Image.new("RGB", size, (shade, shade, shade)).save(folder / f"{index:03d}.png")
