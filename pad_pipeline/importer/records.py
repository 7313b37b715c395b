"""Labelled images become PAD records: sizes from the images, masks from polygons."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath

import numpy as np

from pad_pipeline import masks
from pad_pipeline.dataset.record_images import find_record_image
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.given import GivenRegion, MisplacedRegion
from pad_pipeline.images import ImageError, image_size
from pad_pipeline.importer.labelled import LabelledImage, Labels
from pad_pipeline.importer.options import ImportOptions
from pad_pipeline.progress import track
from pad_pipeline.records import PadRecord, Region, tags_of_boxes
from pad_pipeline.sources import ManifestRow, read_many
from pad_pipeline.sources.boxes import Problems
from pad_pipeline.sources.captions import read_captions
from pad_pipeline.sources.rows import captioned, utf8
from pad_pipeline.sources.seen_ids import SeenIds

logger = logging.getLogger(__name__)

_READ_TOGETHER = 64
_UNKNOWN = "images that are not there or cannot be read"
_REPEATED = "images whose id an earlier one has"


def iter_records(labels: Labels, options: ImportOptions, problems: Problems) -> Iterator[PadRecord]:
    """A record for every image, in order; what cannot be one is counted and left out.

    With `options.images`, and for labels without sizes, the images' own sizes count. Raises
    `UserError` at the end where images were looked for and not one is there, or captions and none
    fits.
    """
    captions = _Captions(options.captions)
    seen = SeenIds()
    tracked = track(labels.images, labels.num_images, "importing images")
    num_kept, example = 0, ""
    while group := list(islice(tracked, _READ_TOGETHER)):
        for image, row, size in _sized(group, options.images):
            example = example or image.image_id
            if size is None:
                problems.add(_UNKNOWN, image.image_id)
            elif not seen.add(image.image_id):
                problems.add(_REPEATED, image.image_id)
            else:
                num_kept += 1
                yield _record(captions.add(image), row.uri, size, options.fill_boxes, problems)
    if not num_kept:
        raise UserError(
            f"none of the {labels.num_images:,} images could be read "
            f"{'below ' + options.images if options.images else 'where the labels say they are'}: "
            f"one is called {example!r}; set ",
            Setting("images"),
            " to the folder that their names are relative to",
        )
    captions.check(example)


def _sized(
    group: list[LabelledImage], images: str | None
) -> Iterator[tuple[LabelledImage, ManifestRow, tuple[int, int] | None]]:
    """Each image with where it lies and its size in pixels, None where that cannot be known."""
    rows = [_row(image, images) for image in group]
    wanted = [images is not None or image.size is None for image in group]
    read = iter(
        read_many([row for row, is_read in zip(rows, wanted, strict=True) if row and is_read])
    )
    for image, row, is_read in zip(group, rows, wanted, strict=True):
        if row is None:
            yield image, ManifestRow(image.image_id, image.uri, None), None
        elif not is_read:
            yield image, row, image.size
        else:
            yield image, row, _size_of(next(read), image.image_id)


def _row(image: LabelledImage, images: str | None) -> ManifestRow | None:
    if images is None:
        return ManifestRow(image.image_id, image.uri, None)
    empty = PadRecord(
        image_id=image.image_id,
        uri=image.uri,
        width=0,
        height=0,
        caption=None,
        status="empty",
        error=None,
        tags=(),
        labels=(),
    )
    return find_record_image(empty, images)


def _size_of(data: bytes | Exception, image_id: str) -> tuple[int, int] | None:
    try:
        if isinstance(data, Exception):
            raise data
        return image_size(data)
    except (ImageError, OSError, UserError, ValueError) as error:
        logger.debug("%s: %s", image_id, error)
        return None


def _record(
    image: LabelledImage, uri: str, size: tuple[int, int], fill_boxes: bool, problems: Problems
) -> PadRecord:
    found = (_region(one, image, size, fill_boxes, problems) for one in image.regions)
    regions = tuple(region for region in found if region is not None)
    width, height = size
    return PadRecord(
        image_id=utf8(image.image_id),
        uri=utf8(uri),
        width=width,
        height=height,
        status="ok" if regions else "empty",
        error=None,
        tags=tags_of_boxes((region.tag, region.score) for region in regions),
        labels=regions,
        **captioned(image.captions),
    )


def _region(
    given: GivenRegion,
    image: LabelledImage,
    size: tuple[int, int],
    fill_boxes: bool,
    problems: Problems,
) -> Region | None:
    """A region with its mask; None where it has none or does not fit its image."""
    width, height = size
    if given.problem:
        problems.add(f"regions whose box {given.problem}", image.image_id)
        return None
    has_mask = bool(given.polygons) or given.rle_mask is not None
    if not has_mask and not fill_boxes:
        problems.add("boxes without a mask", image.image_id)
        return None
    if given.image_size is None:
        given = replace(given, image_size=image.size)
    try:
        placed = given.placed(width, height)
    except MisplacedRegion as error:
        problems.add(f"regions {error.kind}", image.image_id)
        return None
    counts = placed.rle_mask or _filled(placed.bbox, width, height)
    area = masks.area_of_sound(counts, height, width)  # `placed` has checked what was given
    if not area:
        problems.add("regions whose mask has no pixel", image.image_id)
        return None
    return Region(
        tag=" ".join(utf8(given.tag).split()) or "object",
        # float32 is what a shard stores, so a record is the same before and after
        score=float(np.float32(given.score)),
        bbox=tuple(float(np.float32(value)) for value in placed.bbox),  # type: ignore[arg-type]
        rle_mask=counts,
        area=area,
        predicted_iou=1.0,
        origin="masks" if has_mask else "boxes",
        size=(height, width),
    )


def _filled(box: tuple[float, float, float, float], width: int, height: int) -> str:
    """The mask of all pixels whose centre lies in a box."""
    mask = np.zeros((height, width), dtype=bool)
    x0, y0, x1, y1 = (max(0, round(value)) for value in box)
    mask[y0:y1, x0:x1] = True
    return masks.encode(mask)


class _Captions:
    """Captions of a separate file, by id with or without its ending."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._captions: Mapping[str, tuple[str, ...]] = read_captions(url) if url else {}
        self._num_used = 0

    def add(self, image: LabelledImage) -> LabelledImage:
        """The image with the file's captions, where it has some, in place of its own."""
        stem = str(PurePosixPath(image.image_id).with_suffix(""))
        found = self._captions.get(image.image_id, self._captions.get(stem))
        if found is None:
            return image
        self._num_used += 1
        return replace(image, captions=found)

    def check(self, example: str) -> None:
        """Raise `UserError` where captions were given and none was used."""
        if self._captions and not self._num_used:
            raise UserError(
                f"none of the {len(self._captions):,} captions in {self._url} names an image: they "
                f"are for names like {next(iter(self._captions))!r}, images are called {example!r}"
            )
        if self._captions:
            logger.info("captions from %s: %d images have one", self._url, self._num_used)
