"""Which images of a chunk a stage's model gets in one call, and which are in memory together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.guard import build_guarded
from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import Setting
from pad_pipeline.images import ImageLimits, image_size
from pad_pipeline.records import RecordError

InputSize = Callable[[int, int], tuple[int, int]]
"""From the height and width of an image to those at which a model sees it."""

IN_FLIGHT_ON_GPU = 2
"""Chunks that a worker on a GPU has in hand at once: one computes while the other does not."""

logger = logging.getLogger(__name__)


def batch_size(config: AnnotateConfig, name: str) -> int:
    """Images in one call of a stage's model: the config's, at most those of one chunk."""
    return min(getattr(config.stages[name], "batch_size", config.chunk_size), config.chunk_size)


def chunks_in_flight(config: AnnotateConfig) -> int:
    """Chunks that each worker with a model has in hand at once; the device must be resolved."""
    return config.in_flight or (IN_FLIGHT_ON_GPU if config.device == "cuda" else 1)


def warn_about_batches_above_chunk(config: AnnotateConfig) -> None:
    """Log which of the config's batch sizes the chunk size limits."""
    for name in config.models:
        size = getattr(config, name).batch_size
        if size > config.chunk_size:
            logger.warning(
                "%s is above %s: batches of %d images instead, as a batch never spans two chunks",
                Setting(f"{name}.batch_size", size),
                Setting("chunk_size", config.chunk_size),
                config.chunk_size,
            )


def fixed_size(number: int, full: int) -> int:
    """The smallest of `full`, its half, the half of that, … that `number` images fit in.

    Each rounded up; where batches are filled up to it, there are few shapes to compile for, and
    where memory runs out, halves of them are such sizes as well.
    """
    size = full
    while size > 1 and number <= (half := (size + 1) // 2):
        size = half
    return max(size, number)


def in_order(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Batches of at most `size` neighbours."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def alike(
    samples: Sequence[Sample], size: int, input_size: InputSize
) -> Iterator[Sequence[Sample]]:
    """Batches of at most `size` samples of one input size, small ones first; decoded samples.

    Which images share a batch follows from their sizes and their order alone.
    """

    def key(sample: Sample) -> tuple[int, int]:
        return input_size(sample.height, sample.width)

    for _, group in groupby(sorted(samples, key=key), key):
        yield from in_order(list(group), size)


def cut_by_pixels(
    samples: Sequence[Sample], max_bytes: int, limits: ImageLimits
) -> list[list[Sample]]:
    """The samples in order, in parts whose pixels take at most `max_bytes`, or of one image.

    A part is as long as it can be. Sizes are read from the images' headers, so that a part is the
    same whoever decodes it.
    """
    parts: list[list[Sample]] = [[]]
    held = 0
    for sample in samples:
        taken = _decoded_bytes(sample, limits)
        if parts[-1] and taken and held + taken > max_bytes:
            parts.append([])
            held = 0
        parts[-1].append(sample)
        held += taken
    return parts


def _decoded_bytes(sample: Sample, limits: ImageLimits) -> int:
    """Bytes of an image's pixels; 0 where it will not be decoded."""
    if sample.error is not None:
        return 0
    if sample.image is not None:
        return sample.image.nbytes
    size = build_guarded("decode", lambda data: image_size(data, limits), sample.data or b"")
    return 0 if isinstance(size, RecordError) else 3 * size[0] * size[1]
