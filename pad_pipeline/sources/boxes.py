"""Boxes and masks from a separate file, matched to images by their names."""

from __future__ import annotations

import json
import logging
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pad_pipeline import storage
from pad_pipeline.dataset.manifest import MANIFEST
from pad_pipeline.errors import Setting, UserError, plural, short_line
from pad_pipeline.given import GivenRegion, corners
from pad_pipeline.given_masks import GivenMask, read_mask
from pad_pipeline.records import table_to_records
from pad_pipeline.sources.rows import ManifestRow, relative_id
from pad_pipeline.sources.yolo import list_yolo
from pad_pipeline.storage.parquet import ParquetFile

logger = logging.getLogger(__name__)

_NUM_NAMED = 3


@dataclass(slots=True)
class Problems:
    """What of the boxes is left out, by reason, with the first names."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count one of a reason."""
        self.counts[reason] += 1
        names = self.names.setdefault(reason, [])
        if len(names) < _NUM_NAMED and name not in names:
            names.append(name)

    def report(self, where: str) -> None:
        """Log the counts, a line per reason."""
        for reason, count in self.counts.most_common():
            logger.warning(
                "%s: %s left out (%s%s)",
                where,
                plural(count, f"box {reason} is", f"boxes {reason} are"),
                ", ".join(self.names[reason]),
                ", …" if count > len(self.names[reason]) else "",
            )


def sound_boxes(rows: Iterator[ManifestRow], where: str, *, masks: bool) -> Iterator[ManifestRow]:
    """The rows without regions that have no area, or no mask where `masks` are wanted; these are
    counted in the log."""
    problems = Problems()
    keep = _checked(problems, masks=masks)
    for row in rows:
        regions = tuple(one for one in row.regions or () if keep(row.image_id, one))
        yield replace(row, regions=regions)
    problems.report(where)


def with_boxes(rows: Iterator[ManifestRow], url: str, *, masks: bool) -> Iterator[ManifestRow]:
    """The rows with the regions that `url` has for their ids, none where it has none.

    `url` is COCO's JSON, a folder of YOLO's text files or a PAD data set. A name fits an image
    whose id it is, with or without ending, else whose file it names. With `masks`, regions
    without a mask are left out. Images without regions and regions without an image are counted in
    one log line. Raises `UserError` for a file that cannot be read and, after the last row, where
    nothing fits or a name fits several images.
    """
    problems = Problems()
    found = _read(url, problems, masks=masks)
    names: Counter[str] = Counter()
    num_without, example = 0, ""
    for row in rows:
        example = example or row.image_id
        name = next((name for name in _names(row.image_id) if name in found), None)
        if name is None:
            num_without += 1
        else:
            names[name] += 1
        regions = () if name is None else tuple(found[name])
        yield replace(row, regions=regions)
    problems.report(url)
    if example and not names:
        raise UserError(
            f"none of the {len(found):,} names in {url} is an image of the source: boxes are for "
            f"names like {next(iter(found), None)!r}, images are called like {example!r}"
        )
    several = [name for name, count in names.items() if count > 1]
    if several:
        raise UserError(
            f"{url} names {several[0]!r}, which fits {names[several[0]]} images of the source: "
            "write the names with their folders"
        )
    unknown = [name for name in found if name not in names]
    logger.info(
        "boxes from %s: %d images have some, %d do not; %s not of the source%s",
        url,
        len(names),
        num_without,
        plural(len(unknown), "name is", "names are"),
        f" ({', '.join(unknown[:_NUM_NAMED])}{', …' if len(unknown) > _NUM_NAMED else ''})"
        if unknown
        else "",
    )


def _names(image_id: str) -> Iterator[str]:
    """The names under which an image's boxes may stand, the best first."""
    base = posixpath.basename(image_id)
    for name in (image_id, base):
        yield name
        yield posixpath.splitext(name)[0]


Regions = dict[str, list[GivenRegion]]


def _read(url: str, problems: Problems, *, masks: bool) -> Regions:
    if not storage.exists(url):
        raise UserError(f"no such file or folder of boxes: {url} (", Setting("detect.boxes"), ")")
    if not storage.is_folder(url):
        found = _coco(url, problems)
    elif storage.exists(storage.join(url, MANIFEST)) or storage.list_files(url, ".parquet"):
        found = _pad(url, masks=masks)
    else:
        found = dict(list_yolo(url))
    keep = _checked(problems, masks=masks)
    return {name: [one for one in regions if keep(name, one)] for name, regions in found.items()}


def _checked(problems: Problems, *, masks: bool) -> Callable[[str, GivenRegion], bool]:
    def keep(name: str, region: GivenRegion) -> bool:
        reason = region.problem and f"that {region.problem}"
        if reason is None and masks and not region.polygons and region.rle_mask is None:
            reason = "without a mask"
        if reason is not None:
            problems.add(reason, name)
        return reason is None

    return keep


def _pad(url: str, *, masks: bool) -> Regions:
    """The regions of an earlier data set, boxes as its detector gave them."""
    found: Regions = {}
    for name in storage.list_files(url, ".parquet"):
        place = storage.join(url, name)
        try:
            records = table_to_records(ParquetFile(storage.read_bytes(place)).read())
        except (ValueError, KeyError, OSError) as error:
            raise UserError(
                f"{place} is not a shard of PAD records: {short_line(error)}"
            ) from error
        for record in records:
            found[record.image_id] = [
                GivenRegion(
                    tag=region.tag,
                    bbox=region.bbox,
                    score=region.score,
                    rle_mask=region.rle_mask if masks else None,
                    image_size=(record.width, record.height),
                )
                for region in record.labels
            ]
    return found


def _coco(url: str, problems: Problems) -> Regions:
    """The annotations of COCO's instances JSON by file name; those of crowds are left out."""
    try:
        content = json.loads(storage.read_bytes(url).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url} is not valid JSON: {short_line(error)}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in parts):
        raise UserError(
            f"{url} should be COCO's JSON of boxes, an object with the lists {', '.join(parts)}"
        )
    try:
        images = {image["id"]: image for image in content["images"]}
        categories = {one["id"]: str(one["name"]) for one in content["categories"]}
        found: Regions = {relative_id(image["file_name"]): [] for image in images.values()}
        for annotation in content["annotations"]:
            image = images.get(annotation["image_id"])
            if image is None:
                problems.add("of an image that the file does not list", str(annotation["image_id"]))
                continue
            name = relative_id(image["file_name"])
            if annotation.get("iscrowd"):
                problems.add("of a crowd", name)
                continue
            size = coco_image_size(image)
            where = f"{url}: an annotation of {name}"
            found[name].append(coco_region(annotation, categories, size, where))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{url} is not COCO's JSON of boxes: {type(error).__name__} {short_line(error)}"
        ) from error
    return found


def coco_region(
    annotation: Mapping[str, Any],
    categories: Mapping[Any, str],
    image_size: tuple[int, int] | None,
    where: str,
) -> GivenRegion:
    """An annotation of COCO's instances as a region.

    Raises `UserError`, which begins with `where`, for a mask that is none, and `KeyError`,
    `TypeError` or `ValueError` where something else is missing or of another kind.
    """
    shape = annotation.get("segmentation")
    mask = GivenMask() if shape is None else read_mask(shape, where)
    return GivenRegion(
        tag=categories[annotation["category_id"]],
        bbox=corners(annotation["bbox"], "xywh"),
        score=float(annotation.get("score", 1.0)),
        polygons=mask.polygons,
        rle_mask=mask.rle_mask,
        image_size=mask.image_size or image_size,
    )


def coco_image_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """The (width, height) of one of COCO's images, None where it does not say."""
    return (int(image["width"]), int(image["height"])) if image.get("width") else None
