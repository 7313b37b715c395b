"""The library's front door: annotate images in this process, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pad_pipeline.engine.batches import warn_about_batches_above_chunk
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.device import resolve_device
from pad_pipeline.engine.guard import describe
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.engine.stages import Seconds
from pad_pipeline.records import PadRecord


class Annotator:
    """The three models of one config, loaded in this process.

    >>> from pad_pipeline import Annotator, demo
    >>> annotator = Annotator(demo())
    >>> [record] = annotator.annotate(["scene.png"])
    """

    def __init__(self, config: AnnotateConfig) -> None:
        """Load the models. Raises `UserError` where one is missing or does not fit."""
        self.config = resolve_device(config)
        warn_about_batches_above_chunk(self.config)
        self.seconds: Seconds = {}
        self._chain = build_chain(self.config, self.seconds)

    def annotate(
        self,
        images: Sequence[np.ndarray | bytes | str | Path],
        *,
        captions: Sequence[str | None] | None = None,
    ) -> list[PadRecord]:
        """One record per image, in order; an image that fails has a record that says why.

        An image is HWC uint8 RGB pixels, encoded bytes, or the path of a file. Ids are the paths,
        or the positions in the list. The images go through the models in the chunks in which a run
        on Ray would take them, so the records are the same.
        """
        given = list(captions) if captions is not None else [None] * len(images)
        if len(given) != len(images):
            raise ValueError(f"{len(images)} images, but {len(given)} captions")
        samples = [
            to_sample(index, image, caption)
            for index, (image, caption) in enumerate(zip(images, given, strict=True))
        ]
        size = self.config.chunk_size
        records: list[PadRecord] = []
        for start in range(0, len(samples), size):
            chunk = self._chain(samples[start : start + size])
            records += [to_record(sample) for sample in chunk]
            for sample in chunk:
                sample.image = sample.data = None
        return records


def to_sample(index: int, image: np.ndarray | bytes | str | Path, caption: str | None) -> Sample:
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"image {index} is {image.dtype} of shape {image.shape}; expected uint8 (H, W, 3)"
            )
        height, width = image.shape[:2]
        return Sample(
            image_id=str(index), uri="", caption=caption, image=image, width=width, height=height
        )
    if isinstance(image, bytes):
        return Sample(image_id=str(index), uri="", caption=caption, data=image)
    sample = Sample(image_id=str(image), uri=str(image), caption=caption)
    try:
        sample.data = Path(image).read_bytes()
    except OSError as error:
        sample.error = describe("read", error)
    return sample
