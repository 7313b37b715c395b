"""The library's front door: annotate images in this process, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
from pad_pipeline.images import ImageError, pixels_of
from pad_pipeline.records import PadRecord
from pad_pipeline.sources import ManifestRow, read_many


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
        images: Sequence[np.ndarray | Image.Image | bytes | str | Path],
        *,
        captions: Sequence[str | None] | None = None,
        classes: Sequence[str] | str | None = None,
        boxes: Sequence[Any] | None = None,
    ) -> list[PadRecord]:
        """One record per image, in order; an image that fails has a record that says why.

        An image is pixels (uint8, HWC RGB, grey or with transparency), a picture of Pillow, encoded
        bytes, or the path or URL of a file. Ids are paths and URLs, else the positions in the list.
        The images go through the models in the chunks in which a run on Ray would take them, so the
        records are the same.

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
            chunk = samples[start : start + size]
            _read_files(chunk)
            chunk = self._chain(chunk)
            records += [to_record(sample) for sample in chunk]
            for sample in chunk:
                sample.image = sample.data = None
        return records


def to_sample(index: int, image: np.ndarray | Image.Image | bytes | str | Path) -> Sample:
    """One image as `Annotator.annotate` takes it; a file is not read yet.

    Raises `ValueError` for an array that is no image.
    """
    if isinstance(image, str | Path):
        return Sample(image_id=str(image), uri=str(image))
    if isinstance(image, bytes):
        return Sample(image_id=str(index), uri="", data=image)
    sample = Sample(image_id=str(index), uri="")
    try:
        sample.image = pixels_of(image)
    except ImageError as error:
        sample.error = describe("decode", error)
    except ValueError as error:
        raise ValueError(f"image {index}: {error}") from error
    else:
        sample.height, sample.width = sample.image.shape[:2]
    return sample


def _read_files(samples: Sequence[Sample]) -> None:
    """Give samples that are files their bytes, or the error with which they cannot be read."""
    files = [sample for sample in samples if sample.uri]
    rows = [ManifestRow(sample.image_id, sample.uri, None) for sample in files]
    for sample, data in zip(files, read_many(rows), strict=True):
        if isinstance(data, Exception):
            sample.error = describe("read", data)
        else:
            sample.data = data
