"""The library's front door: annotate images in this process, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pad_pipeline.engine.batches import warn_about_batches_above_chunk
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.config import AnnotateConfig, resolve_words
from pad_pipeline.engine.device import resolve_device
from pad_pipeline.engine.given import check_given
from pad_pipeline.engine.guard import describe
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.engine.stages import Seconds
from pad_pipeline.engine.words import as_lines, read_words
from pad_pipeline.given import read_regions
from pad_pipeline.records import PadRecord


class Annotator:
    """The three models of one config, loaded in this process.

    >>> from pad_pipeline import Annotator, demo
    >>> annotator = Annotator(demo())
    >>> [record] = annotator.annotate(["scene.png"])
    """

    def __init__(self, config: AnnotateConfig) -> None:
        """Load the models. Raises `UserError` where one is missing or does not fit."""
        self.config = resolve_device(resolve_words(config))
        warn_about_batches_above_chunk(self.config)
        self.seconds: Seconds = {}
        self._chain = build_chain(self.config, self.seconds)

    def annotate(
        self,
        images: Sequence[np.ndarray | bytes | str | Path],
        *,
        captions: Sequence[str | None] | None = None,
        classes: Sequence[str] | str | None = None,
        boxes: Sequence[Any] | None = None,
    ) -> list[PadRecord]:
        """One record per image, in order; an image that fails has a record that says why.

        An image is HWC uint8 RGB pixels, encoded bytes, or the path of a file. Ids are the paths,
        or the positions in the list. The images go through the models in the chunks in which a run
        on Ray would take them, so the records are the same.

        `classes` are tags for all images in place of the tagger's, as words or as the config has
        them. `boxes` are boxes in place of
        the detector's, a list for each image or None: x0, y0, x1, y1 in pixels, or a mapping such
        as `{"bbox": (x0, y0, x1, y1), "label": "dog"}`. Raises `UserError` where they are not such,
        or where the config's own tags or boxes are to be given and are not, and `ValueError`
        where there are more or fewer captions or boxes than images.
        """
        samples = [to_sample(index, image) for index, image in enumerate(images)]
        for name, values in (("captions", captions), ("boxes", boxes)):
            if values is not None and len(values) != len(images):
                raise ValueError(f"{len(images)} images, but {len(values)} {name}")
        for sample, caption in zip(samples, captions or (), strict=bool(captions)):
            sample.caption = caption
        for sample, of_image in zip(samples, boxes or (), strict=bool(boxes)):
            if of_image is not None:
                sample.regions = read_regions(of_image, f"image {sample.image_id}")
        words = None
        if classes is not None:
            words = read_words(
                "classes", classes if isinstance(classes, str) else as_lines(classes)
            )
        for sample in samples:
            sample.classes = words
            check_given(self.config, sample)
        size = self.config.chunk_size
        records: list[PadRecord] = []
        for start in range(0, len(samples), size):
            chunk = self._chain(samples[start : start + size])
            records += [to_record(sample) for sample in chunk]
            for sample in chunk:
                sample.image = sample.data = None
        return records


def to_sample(index: int, image: np.ndarray | bytes | str | Path) -> Sample:
    """One image as `Annotator.annotate` takes it."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"image {index} is {image.dtype} of shape {image.shape}; expected uint8 (H, W, 3)"
            )
        height, width = image.shape[:2]
        return Sample(image_id=str(index), uri="", image=image, width=width, height=height)
    if isinstance(image, bytes):
        return Sample(image_id=str(index), uri="", data=image)
    sample = Sample(image_id=str(image), uri=str(image))
    try:
        sample.data = Path(image).read_bytes()
    except OSError as error:
        sample.error = describe("read", error)
    return sample
