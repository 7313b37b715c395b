"""The four stages as plain callables: tag, detect, suppress, segment.

A stage takes a list of samples and gives back the same samples in the same order, each with what
the stage found or with the error for which it found nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pad_pipeline.boxes import nms
from pad_pipeline.engine.config import SuppressConfig
from pad_pipeline.engine.guard import run_guarded
from pad_pipeline.engine.sample import Sample
from pad_pipeline.images import ImageLimits, decode_image
from pad_pipeline.models.protocols import Boxes, Detector, Image, Mask, Segmenter, Tagger
from pad_pipeline.records import RecordError, Tag

logger = logging.getLogger(__name__)

Seconds = dict[str, float]
"""Time spent, by what it was spent on: decode, tag, detect, suppress, segment."""

SUPPRESS_BATCH_SIZE = 64


class Stage(Protocol):
    """One step of the chain: same samples out as in, in order; never raises for one of them."""

    def __call__(self, samples: list[Sample], /) -> list[Sample]:
        """Do the step."""
        ...


@dataclass(frozen=True)
class Decode:
    """Bytes to pixels, for the samples that have none yet."""

    limits: ImageLimits
    seconds: Seconds
    threads: int = 1

    def __call__(self, samples: list[Sample], /) -> list[Sample]:
        """Set `image`, `width` and `height`; an undecodable image gets an error."""
        todo = [s for s in samples if s.image is None and s.error is None]
        with _timed(self.seconds, "decode"):
            if self.threads > 1 and len(todo) > 1:
                with ThreadPoolExecutor(self.threads) as pool:
                    results = list(pool.map(self._decode, todo))
            else:
                results = [self._decode(sample) for sample in todo]
        for sample, result in zip(todo, results, strict=True):
            if isinstance(result, RecordError):
                sample.error = result
            else:
                sample.image = result
                sample.height, sample.width = result.shape[:2]
        return samples

    def _decode(self, sample: Sample) -> Image | RecordError:
        def work(samples: Sequence[Sample]) -> list[Image]:
            return [decode_image(sample.data or b"", self.limits) for sample in samples]

        return run_guarded(work, [sample], "decode")[0]


@dataclass(slots=True)
class LargestBatch:
    """The most images that a model was given in one call, and the most that it has processed."""

    given: int = 0
    processed: int = 0


@dataclass(frozen=True)
class ModelStage:
    """A model over batches of samples; the one place where batches are made.

    `work` gives one result per sample of a batch, which becomes the sample's `attribute`. Samples
    for which `has_work` is false are not decoded; they get the result `nothing`.
    """

    name: str
    work: Callable[[Sequence[Sample]], Sequence[Any]]
    attribute: str
    batch_size: int
    seconds: Seconds
    decode: Decode | None = None
    has_work: Callable[[Sample], bool] = lambda sample: True
    nothing: Any = None
    free_memory: Callable[[], None] = lambda: None
    largest: LargestBatch = field(default_factory=LargestBatch)

    def __call__(self, samples: list[Sample], /) -> list[Sample]:
        """Set the attribute, or the error, of every sample that has none yet."""
        todo = []
        for sample in samples:
            if sample.error is None and self.has_work(sample):
                todo.append(sample)
            elif sample.error is None:
                setattr(sample, self.attribute, self.nothing)
        if self.decode is not None:
            todo = [s for s in self.decode(todo) if s.error is None]
        for start in range(0, len(todo), self.batch_size):
            batch = todo[start : start + self.batch_size]
            with _timed(self.seconds, self.name):  # by batch: a watchdog sees that it moves
                results = run_guarded(self._process, batch, self.name, self.free_memory)
            for sample, result in zip(batch, results, strict=True):
                if isinstance(result, RecordError):
                    sample.error = result
                else:
                    setattr(sample, self.attribute, result)
        return samples

    @property
    def batch_size_in_use(self) -> int:
        """The batch size that the calls so far ran at; below `batch_size` where memory ran out."""
        is_halved = self.largest.processed < self.largest.given
        return self.largest.processed if is_halved else self.batch_size

    def _process(self, batch: Sequence[Sample]) -> Sequence[Any]:
        self.largest.given = max(self.largest.given, len(batch))
        results = self.work(batch)
        self.largest.processed = max(self.largest.processed, len(batch))
        return results


def tag_stage(tagger: Tagger, **options: Any) -> ModelStage:
    """Recognize Anything: sets `tags`. Options are those of `ModelStage`, for all stages here."""

    def work(samples: Sequence[Sample]) -> list[tuple[Tag, ...]]:
        return [tuple(tags) for tags in tagger.tag(_pixels(samples))]

    return ModelStage("tag", work, "tags", **options)


def detect_stage(detector: Detector, **options: Any) -> ModelStage:
    """Grounding DINO: sets `boxes`; an image without tags has none and is skipped."""

    def work(samples: Sequence[Sample]) -> list[Boxes]:
        tags = [[tag.tag for tag in sample.tags] for sample in samples]
        return detector.detect(_pixels(samples), tags)

    return ModelStage(
        "detect", work, "boxes", has_work=lambda s: bool(s.tags), nothing=Boxes(), **options
    )


def suppress_stage(config: SuppressConfig, seconds: Seconds) -> ModelStage:
    """Non-maximum suppression: keeps the surviving `boxes`, best score first."""

    def suppress(boxes: Boxes) -> Boxes:
        labels = boxes.labels if config.per_class else None
        kept = nms(boxes.xyxy, boxes.scores, config.iou_threshold, labels)
        return Boxes(
            xyxy=boxes.xyxy[kept],
            scores=boxes.scores[kept],
            labels=tuple(boxes.labels[index] for index in kept),
            num_prompts=boxes.num_prompts,
        )

    def work(samples: Sequence[Sample]) -> list[Boxes]:
        return [suppress(sample.boxes) for sample in samples if sample.boxes is not None]

    return ModelStage("suppress", work, "boxes", SUPPRESS_BATCH_SIZE, seconds)


def segment_stage(segmenter: Segmenter, *, batch_size: int, **options: Any) -> ModelStage:
    """SAM: sets `masks`, one per box; an image without boxes has none and is skipped.

    Batches are smaller than `batch_size` where the segmenter's memory allows fewer images.
    """
    fitting = segmenter.max_images or batch_size
    if fitting < batch_size:
        logger.warning(
            "segment: batches of %d images instead of %d, which the memory of SAM's attention "
            "on a CPU allows",
            fitting,
            batch_size,
        )
    options["batch_size"] = min(batch_size, fitting)

    def work(samples: Sequence[Sample]) -> list[tuple[Mask, ...]]:
        masks = segmenter.segment(_pixels(samples), [sample.boxes_xyxy for sample in samples])
        return [tuple(of_image) for of_image in masks]

    return ModelStage(
        "segment", work, "masks", has_work=lambda s: len(s.boxes_xyxy) > 0, nothing=(), **options
    )


@dataclass(frozen=True)
class Chain:
    """Several stages as one, in one process: pixels pass between them, so images decode once."""

    stages: Sequence[Stage]

    def __call__(self, samples: list[Sample], /) -> list[Sample]:
        """Do the steps in order."""
        for stage in self.stages:
            samples = stage(samples)
        return samples


@contextmanager
def _timed(seconds: Seconds, name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def _pixels(samples: Sequence[Sample]) -> list[Image]:
    return [sample.image for sample in samples if sample.image is not None]
