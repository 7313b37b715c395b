"""Every image of a data set with its masks, boxes and tags drawn on it, one picture file each."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath

from PIL import Image

from pad_pipeline import storage
from pad_pipeline.dataset.chooser import LEFT_OUT, Chooser
from pad_pipeline.dataset.known_names import warn_about_unknown_names
from pad_pipeline.dataset.manifest import State
from pad_pipeline.dataset.reader import (
    Dataset,
    iter_whole_records,
    open_dataset,
    report_unfinished,
)
from pad_pipeline.dataset.record_images import UNREADABLE, iter_record_images
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.drawing.contact_sheet import contact_sheet
from pad_pipeline.drawing.record import draw_record
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.progress import track
from pad_pipeline.records import PadRecord
from pad_pipeline.review.choice import ReviewChoice, mention_unused
from pad_pipeline.storage.atomic import new_folder

__all__ = ["RenderReport", "contact_sheet", "picture_name", "render"]

logger = logging.getLogger(__name__)

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]|[. ]$|^ ')
_MAX_NAME_BYTES = 180
_MAX_PATH_BYTES = 1000
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class RenderReport:
    """What was drawn; `left_out` counts the images without a picture by reason."""

    dest: str
    state: State
    num_images: int
    num_regions: int
    left_out: dict[str, int] = field(default_factory=dict)


def render(
    url: str,
    dest: str,
    images: str | None = None,
    limit: int | None = None,
    select: Selection | None = None,
    review: ReviewChoice | None = None,
) -> RenderReport:
    """Draws the first `limit` images (all by default) that did not fail into the folder `dest`.

    The pictures are named after the images' ids, folders kept: PNG for a PNG, JPEG for the others.
    Images are read from the records' uri or below `images`. Raises `UserError` where `dest` exists,
    a limit is below 1, the review or no image can be read, or a mask is damaged.
    """
    if limit is not None and limit < 1:
        raise UserError(f"expected a limit of at least 1 image, found {limit}")
    dataset = open_dataset(url)
    report_unfinished(dataset)
    mention_unused(url, review)
    chooser = Chooser(url, select, review)
    warn_about_unknown_names(dataset, select, chooser.new_tags)
    counts: Counter[str] = Counter()
    with new_folder(dest) as folder:
        drawn = _draw(dataset, images, chooser, counts)
        most = dataset.num_rows if limit is None else min(limit, dataset.num_rows)
        for name, data, num_regions in track(islice(drawn, limit), most, "drawing images"):
            storage.write_atomic(storage.join(folder, name), data)
            counts["images"] += 1
            counts["regions"] += num_regions
    num_images, num_regions = counts.pop("images", 0), counts.pop("regions", 0)
    return RenderReport(dest, dataset.state, num_images, num_regions, dict(counts.most_common()))


def _draw(
    dataset: Dataset, images: str | None, chooser: Chooser, counts: Counter[str]
) -> Iterator[tuple[str, bytes, int]]:
    """(file name, encoded picture, number of regions) of every image that can be drawn."""
    taken: set[str] = set()

    def dropped(_: PadRecord) -> None:
        counts[LEFT_OUT] += 1

    chosen_records = chooser.choose(iter_whole_records(dataset), dropped)
    records = (chosen.record for chosen in chosen_records)
    for record, data in iter_record_images(records, images, counts):
        try:
            image = decode_image(data)
        except ImageError as error:
            counts[UNREADABLE] += 1
            logger.warning("left out %s: %s", record.image_id, error)
            continue
        if image.shape[:2] != (record.height, record.width):
            counts["image changed since"] += 1
            logger.warning(
                "left out %s: it was annotated at %dx%d pixels and has %dx%d now",
                record.image_id,
                record.width,
                record.height,
                image.shape[1],
                image.shape[0],
            )
            continue
        name = _apart(picture_name(record.image_id), record.image_id, taken)
        yield name, _encode(draw_record(image, record), name), len(record.labels)


def picture_name(image_id: str) -> str:
    """A relative path for the picture of an image, safe on any file system.

    Folders stay. A part that some file system would not take, or that leads out of the folder, is
    rewritten and gets a checksum of the original, so that no two images share a name.
    """
    parts = [_safe(part) for part in image_id.split("/") if part not in ("", ".")]
    name = "/".join(parts) or _safe("")
    if len(name.encode("utf-8", "replace")) > _MAX_PATH_BYTES:
        name = _safe(image_id)
    suffix = PurePosixPath(name).suffix.lower()
    return name if suffix in (".png", ".jpg", ".jpeg") else name + ".jpg"


def _apart(name: str, image_id: str, taken: set[str]) -> str:
    """`name`, or one with a checksum where another picture has it: `a//b.png` beside `a/b.png`."""
    if name.lower() in taken:
        path = PurePosixPath(name)
        name = str(path.with_name(f"{path.stem}-{_digest(image_id)}{path.suffix}"))
    taken.add(name.lower())
    return name


def _safe(part: str) -> str:
    cleaned = _UNSAFE.sub("_", part)
    encoded = cleaned.encode("utf-8", "replace")
    if cleaned == part and part not in ("", "..") and len(encoded) <= _MAX_NAME_BYTES:
        return part
    path = PurePosixPath(encoded[:_MAX_NAME_BYTES].decode("utf-8", "ignore").strip(". "))
    suffix = PurePosixPath(cleaned).suffix if len(PurePosixPath(cleaned).suffix) <= 6 else ""
    return f"{path.stem or 'image'}-{_digest(part)}{suffix}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def _encode(picture: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    if name.lower().endswith(".png"):
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()
