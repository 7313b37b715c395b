"""The four stages as plain callables: tag, detect, suppress, segment.

A stage takes a list of samples and gives back the same samples in the same order, each with what
the stage found or with the error for which it found nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from pad_pipeline.engine.batches import InputSize, alike, fixed_size, in_order
from pad_pipeline.engine.config import SuppressConfig
from pad_pipeline.engine.given import (
    ONLY_MODEL,
    GivenTags,
    given_masks,
    place_regions,
)
from pad_pipeline.engine.guard import is_out_of_memory, run_guarded
from pad_pipeline.engine.keep import MaskLimits, keep_boxes, survivors
from pad_pipeline.engine.metrics import PassCount
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.turns import Turns
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


@runtime_checkable
class SharedStage(Stage, Protocol):
    """A stage that several threads can use at once."""

    def twin(self, seconds: Seconds, /) -> Stage:
        """The same stage for another thread: it shares the models, and books to `seconds`."""
        ...


@dataclass(frozen=True)
class Decode:
    """Bytes to pixels, for the samples that have none yet.

    `threads` decode one image each; without them this thread decodes all. `hold` makes of an array
    what the models are to be given, and leaves that as it is.
    """

    limits: ImageLimits
    seconds: Seconds
    threads: Executor | None = None
    hold: Callable[[Image], Image] = lambda image: image

    def __call__(self, samples: list[Sample], /) -> list[Sample]:
        """Set `image`, `width` and `height`; an undecodable image gets an error."""
        todo = [s for s in samples if s.image is None and s.error is None]
        with _timed(self.seconds, "decode"):
            each = map if self.threads is None else self.threads.map
            results = list(each(self._decode, todo))
        for sample, result in zip(todo, results, strict=True):
            if isinstance(result, RecordError):
                sample.error = result
            else:
                sample.image = result
                sample.height, sample.width = result.shape[:2]
        for sample in samples:
            if sample.image is not None:
                sample.image = self.hold(sample.image)
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
    for which `has_work` is false are not decoded; they get the result `nothing`. Batches are made
    of neighbours or, with `input_size`, of all samples of one size as the model sees them. Where
    several threads share the memory of a GPU, `turns` gives it to one alone when it runs out. For a
    compiled model, `fills_up` repeats a batch's last sample until it has one of few sizes.
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
    turns: Turns | None = None
    input_size: InputSize | None = None
    fills_up: bool = False
    largest: LargestBatch = field(default_factory=LargestBatch)
    passes: PassCount = field(default_factory=PassCount)

    def twin(self, seconds: Seconds) -> ModelStage:
        """The same stage for another thread: it shares the model and counts for itself."""
        decode = None if self.decode is None else replace(self.decode, seconds=seconds)
        return replace(
            self, seconds=seconds, decode=decode, largest=LargestBatch(), passes=PassCount()
        )

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
        for batch in self._batches(todo):
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

    def _batches(self, todo: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        if self.input_size is None:
            return in_order(todo, self.batch_size)
        return alike(todo, self.batch_size, self.input_size)

    def _process(self, batch: Sequence[Sample]) -> Sequence[Any]:
        self.largest.given = max(self.largest.given, len(batch))
        results = self._run(batch)
        self.passes.add(len(batch))
        self.largest.processed = max(self.largest.processed, len(batch))
        return results

    def _run(self, batch: Sequence[Sample]) -> Sequence[Any]:
        """The batch's results; smaller batches are for where it does not fit alone either.

        So the batches, and the last bits of the results, do not depend on what others hold.
        """
        if self.turns is None:
            return self._work(batch)
        with self.turns.beside_others():
            try:
                return self._work(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
        with self.turns.alone():
            self.free_memory()
            return self._work(batch)

    def _work(self, batch: Sequence[Sample]) -> Sequence[Any]:
        missing = fixed_size(len(batch), self.batch_size) - len(batch) if self.fills_up else 0
        return self.work([*batch, *[batch[-1]] * missing])[: len(batch)]


def tag_stage(tagger: Tagger | None, given: GivenTags = ONLY_MODEL, **options: Any) -> ModelStage:
    """Recognize Anything, and the tags that are given: sets `tags`.

    Only images of which the tagger is to say something go through it; without any that do, it may
    be None. Options are those of `ModelStage`, for all stages here.
    """

    def work(samples: Sequence[Sample]) -> list[tuple[Tag, ...]]:
        wanted = [given.needs_model(sample) for sample in samples]
        images = pixels_of([s for s, needed in zip(samples, wanted, strict=True) if needed])
        if images and tagger is None:
            raise ValueError("no tagger is loaded, and no classes or boxes are given")
        found = iter(tagger.tag(images) if tagger is not None and images else ())
        by_model = [tuple(next(found)) if needed else () for needed in wanted]
        return given.complete(samples, by_model)

    return ModelStage("tag", work, "tags", **options)


def detect_stage(
    detector: Detector | None, *, group_by_size: bool = False, masks: bool = False, **options: Any
) -> ModelStage:
    """Grounding DINO: sets `boxes`; an image without tags has none and is skipped.

    Only images of one size share a pass of the model. With `group_by_size` a batch holds those of
    one size from the whole chunk, else neighbours, which the detector then takes apart.

    An image for which boxes are given gets these instead, in their order, and with `masks` keeps
    the masks that they have; where all are, the detector may be None.
    """
    if detector is not None and group_by_size:
        options["input_size"] = detector.input_size

    def work(samples: Sequence[Sample]) -> list[Boxes]:
        wanted = [sample for sample in samples if sample.regions is None]
        if wanted and detector is None:
            raise ValueError("no detector is loaded, and no boxes are given")
        found: list[Boxes] = []
        if detector is not None and wanted:
            tags = [list(dict.fromkeys(tag.tag for tag in sample.tags)) for sample in wanted]
            found = detector.detect(pixels_of(wanted), tags)
        detected = iter(found)
        return [
            next(detected) if sample.regions is None else place_regions(sample, masks=masks)
            for sample in samples
        ]

    return ModelStage(
        "detect",
        work,
        "boxes",
        has_work=lambda s: bool(s.tags or s.regions),
        nothing=Boxes(),
        **options,
    )


def suppress_stage(
    config: SuppressConfig, seconds: Seconds, negative: Collection[str] = ()
) -> ModelStage:
    """Non-maximum suppression: keeps the surviving `boxes`, best score first.

    Boxes of `negative` words suppress others and go then. Given boxes stay as they are unless
    `config` wants them suppressed too.
    """

    def suppress(sample: Sample) -> Boxes:
        assert sample.boxes is not None
        if sample.regions is not None and not config.given_boxes:
            return sample.boxes
        return keep_boxes(sample, survivors(sample.boxes, config, negative))

    def work(samples: Sequence[Sample]) -> list[Boxes]:
        return [suppress(sample) for sample in samples]

    return ModelStage("suppress", work, "boxes", SUPPRESS_BATCH_SIZE, seconds)


def segment_stage(
    segmenter: Segmenter | None,
    *,
    batch_size: int,
    limits: MaskLimits | None = None,
    **options: Any,
) -> ModelStage:
    """SAM: sets `masks`, one per box; an image without boxes has none and is skipped.

    An image whose masks are given gets these. Masks beyond the `limits` go with their boxes.
    Batches are smaller than `batch_size` where the segmenter's memory allows fewer images.
    """
    fitting = batch_size if segmenter is None else segmenter.max_images or batch_size
    if fitting < batch_size:
        logger.warning(
            "segment: batches of %d images instead of %d, which the memory of SAM's attention "
            "on a CPU allows",
            fitting,
            batch_size,
        )
    options["batch_size"] = min(batch_size, fitting)

    def work(samples: Sequence[Sample]) -> list[tuple[Mask, ...]]:
        wanted = [sample for sample in samples if not sample.has_given_masks]
        found: list[list[Mask]] = []
        if wanted and segmenter is None:
            raise ValueError("no segmenter is loaded, and no masks are given")
        if segmenter is not None and wanted:
            found = segmenter.segment(pixels_of(wanted), [sample.boxes_xyxy for sample in wanted])
        segmented = iter(found)
        masks = [
            given_masks(sample) if sample.has_given_masks else tuple(next(segmented))
            for sample in samples
        ]
        if limits is None:
            return masks
        return [limits.apply(s, of_image) for s, of_image in zip(samples, masks, strict=True)]

    return ModelStage(
        "segment", work, "masks", has_work=lambda s: len(s.boxes_xyxy) > 0, nothing=(), **options
    )


@contextmanager
def _timed(seconds: Seconds, name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def pixels_of(samples: Sequence[Sample]) -> list[Image]:
    """The decoded images of samples that all have one."""
    return [sample.image for sample in samples if sample.image is not None]
