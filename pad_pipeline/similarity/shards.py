"""The embeddings of one shard: its images read, decoded and embedded, a batch at a time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pad_pipeline.dataset.reader import Dataset, Shard, iter_records
from pad_pipeline.dataset.record_images import UNREADABLE, read_record_images
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.models.protocols import Image
from pad_pipeline.records import PadRecord
from pad_pipeline.region_masks import region_mask
from pad_pipeline.similarity import store
from pad_pipeline.similarity.config import EmbedConfig

if TYPE_CHECKING:
    from pad_pipeline.models.embedding.embedder import PatchEmbedder

logger = logging.getLogger(__name__)


class _Item(NamedTuple):
    """A record with its decoded image and masks; no image where it failed or is unreadable."""

    record: PadRecord
    image: Image | None = None
    thumbnail: NDArray[np.uint8] | None = None
    masks: Sequence[NDArray[np.bool_]] = ()
    reason: str = ""


def embed_shard(
    dataset: Dataset,
    shard: Shard,
    embedder: PatchEmbedder,
    images: str | None,
    config: EmbedConfig,
) -> tuple[pa.Table, Counter[str]]:
    """The table of a shard's embeddings (`store.schema`), row by row, and what it holds.

    Counts "images", "regions" and, by reason, images without an embedding. Raises `UserError` where
    images were looked for and not one could be read.
    """
    counts: Counter[str] = Counter(images=0, regions=0)
    ids: list[str] = []
    whole: list[NDArray[np.float32]] = []
    thumbnails: list[NDArray[np.uint8] | None] = []
    regions: list[NDArray[np.float32]] = []
    for items in _batches(replace(dataset, shards=(shard,)), images, config):
        there = [(item.image, item.masks) for item in items if item.image is not None]
        made = iter(embedder.embed([image for image, _ in there], [masks for _, masks in there]))
        for item in items:
            ids.append(item.record.image_id)
            one = next(made) if item.image is not None else None
            counts["images" if one is not None else item.reason] += 1
            counts["regions"] += 0 if one is None else len(one.regions_RE)
            thumbnails.append(item.thumbnail)
            absent = np.full((1 + len(item.record.labels), embedder.width), np.nan, np.float32)
            whole.append(absent[0] if one is None else one.image_E)
            regions.append(one.regions_RE if one is not None and config.regions else absent[1:])
    if counts[UNREADABLE] and not counts["images"]:
        raise UserError(
            f"none of the {counts[UNREADABLE]:,} images of {shard.name} could be read from "
            f"{images or 'where they were annotated'}; set ",
            Setting("images"),
            " to where they are now",
        )
    schema = store.schema(embedder.width)
    vector = schema.field("embedding").type
    offsets = pa.array(np.cumsum([0, *map(len, regions)]).astype(np.int32))
    of_regions = _vectors([row for one in regions for row in one], vector)
    columns = [
        pa.array(ids, pa.string()),
        _vectors(whole, vector),
        pa.array(thumbnails, schema.field("thumbnail").type),
        pa.ListArray.from_arrays(offsets, of_regions, type=schema.field("regions").type),
    ]
    return pa.table(columns, schema=schema), counts


def _vectors(rows: list[NDArray[np.float32]], kind: pa.FixedSizeListType) -> pa.Array:
    """Rows as lists, those of NaN as null."""
    values = np.stack(rows) if rows else np.zeros((0, kind.list_size), np.float32)
    missing = np.isnan(values).any(axis=1)
    flat = pa.array(np.nan_to_num(values).astype(np.float16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(missing))


def _batches(dataset: Dataset, images: str | None, config: EmbedConfig) -> Iterator[list[_Item]]:
    """The records in order with their images; the next batch is read while one is embedded."""
    records = iter_records(dataset)
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as ahead:
        load = partial(_load, images=images, with_masks=config.regions, pool=pool)
        coming: Future[list[_Item]] | None = None
        while batch := list(islice(records, config.batch_size)):
            following = ahead.submit(load, batch)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()


def _load(
    records: list[PadRecord], images: str | None, with_masks: bool, pool: ThreadPoolExecutor
) -> list[_Item]:
    there = [record for record in records if record.status != "failed"]
    found = iter(pool.map(_decode, there, read_record_images(there, images)))
    items = []
    for record in records:
        if record.status == "failed":
            items.append(_Item(record, reason="failed"))
            continue
        image = next(found)
        if isinstance(image, Exception):
            logger.warning("left out %s: %s", record.image_id, image)
            items.append(_Item(record, reason=UNREADABLE))
            continue
        masks = [region_mask(record, region) for region in record.labels] if with_masks else []
        items.append(_Item(record, image, _thumbnail(image), masks))
    return items


def _thumbnail(image: Image) -> NDArray[np.uint8]:
    """The image in few grey pixels, each the mean of what it stands for."""
    side = (store.THUMBNAIL_SIDE, store.THUMBNAIL_SIDE)
    grey = PillowImage.fromarray(image).convert("L")
    return np.asarray(grey.resize(side, PillowImage.Resampling.BOX)).ravel()


def _decode(record: PadRecord, data: bytes | Exception) -> Image | Exception:
    if isinstance(data, Exception):
        return data
    try:
        image = decode_image(data)
    except ImageError as error:
        return error
    if image.shape[:2] != (record.height, record.width):
        return ImageError(
            f"it is {image.shape[1]}x{image.shape[0]}, but {record.width}x{record.height} was "
            "annotated"
        )
    return image
