"""Label Studio's JSON: tasks with annotations, or with predictions where nobody has annotated."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pad_pipeline import masks, storage
from pad_pipeline.errors import UserError, plural, short_line
from pad_pipeline.export.label_studio import LOCAL_FILES
from pad_pipeline.given import GivenRegion
from pad_pipeline.given_masks import Polygon
from pad_pipeline.importer.brush import decode_brush
from pad_pipeline.importer.labelled import (
    NOT_A_SHAPE,
    NOT_READ,
    LabelledImage,
    Labels,
    captions_in,
    folder_of,
    stated_size,
)
from pad_pipeline.sources.boxes import Problems
from pad_pipeline.sources.json_stream import read_json_array
from pad_pipeline.sources.rows import is_image_name, relative_id

logger = logging.getLogger(__name__)

_IMAGE_KEYS = ("image", "img", "image_url", "url")
_UPLOAD = re.compile(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?(.+)")


def read_label_studio(source: str, images: str | None, problems: Problems) -> Labels:
    """The images of Label Studio's JSON export in its order.

    An image's id is the `image_id` of its task's data, else the path in its address. Of several
    annotations of a task the one that was changed last counts; a task without any has those of its
    first prediction. Polygons, brush masks and upright rectangles are read; the rest is left out.
    """
    del images
    number = sum(1 for _ in read_json_array(source))
    return Labels(number, _images(source, problems))


def _images(source: str, problems: Problems) -> Iterator[LabelledImage]:
    num_predicted, folder = 0, None
    for number, task in enumerate(read_json_array(source), 1):
        name = f"task {number}"
        try:
            address = _address(task["data"])
            path = _path(address)
            data = task["data"]
            name = relative_id(str(data["image_id"])) if data.get("image_id") else path
            results, is_predicted = _results(task, name, problems)
        except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
            problems.add("tasks that cannot be read", f"{name}: {short_line(error)}")
            continue
        if results is None:
            problems.add("tasks with neither an annotation nor a prediction", name)
            continue
        num_predicted += is_predicted
        regions, size = [], _stated(data, name, problems)
        for result in results:
            try:
                region = _region(result, name, problems)
            except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
                problems.add(NOT_READ, f"{name}: {short_line(error)}")
                continue
            if region is not None:
                regions.append(region)
                size = size or region.image_size
        folder = folder or folder_of(source, [name])
        uri = address if "://" in address else storage.join(folder, name)
        yield LabelledImage(name, uri, size, tuple(regions), captions_in(data))
    if num_predicted:
        logger.info(
            "%s without an annotation: their predictions were taken as they are",
            plural(num_predicted, "task"),
        )


def _stated(data: Mapping[str, Any], name: str, problems: Problems) -> tuple[int, int] | None:
    """The size that the export writes into a task's data, for images without a region."""
    if data.get("width") is None:
        return None
    try:
        return stated_size(data["width"], data.get("height"))
    except (TypeError, ValueError, OverflowError) as error:
        problems.add("sizes that are none", f"{name}: {short_line(error)}")
        return None


def _address(data: Mapping[str, Any]) -> str:
    """The address of a task's image: of a usual key, else the only one that ends as an image."""
    for key in _IMAGE_KEYS:
        if isinstance(data.get(key), str):
            return data[key]
    texts = [one for one in data.values() if isinstance(one, str)]
    found = [one for one in texts if is_image_name(urlsplit(one).path)]
    if len(found) != 1:
        raise UserError(f"its data name no image under {', '.join(_IMAGE_KEYS)}")
    return found[0]


def _path(address: str) -> str:
    """The path of an image in Label Studio's address of it."""
    if address.startswith(LOCAL_FILES.partition("?")[0]):
        return relative_id(parse_qs(urlsplit(address).query)["d"][0])
    if uploaded := _UPLOAD.fullmatch(address):
        return relative_id(unquote(uploaded[1]))
    if "://" in address:
        return relative_id(unquote(urlsplit(address).path))
    return relative_id(address)


def _results(
    task: Mapping[str, Any], name: str, problems: Problems
) -> tuple[list[Mapping[str, Any]] | None, bool]:
    """What was marked in a task, None for nothing, and whether a model did it."""
    done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    if done:
        for _ in done[1:]:
            problems.add("annotations that a later one of the same task replaces", name)
        newest = max(done, key=lambda one: str(one.get("updated_at") or ""))
        return newest["result"], False
    predictions = task.get("predictions") or ()
    for _ in predictions[1:]:
        problems.add("predictions besides the first of a task", name)
    return (predictions[0]["result"], True) if predictions else (None, False)


def _region(result: Mapping[str, Any], name: str, problems: Problems) -> GivenRegion | None:
    kind, value = result.get("type"), result.get("value", {})
    if kind not in ("polygonlabels", "rectanglelabels", "brushlabels"):
        problems.add(NOT_A_SHAPE, f"{name}: {kind}")
        return None
    if result.get("image_rotation") or value.get("rotation"):
        problems.add("labels of turned images or boxes", name)
        return None
    labels = value[kind]
    if len(labels) != 1:
        raise UserError(f"a region should have one label, found {labels}")
    size = stated_size(result["original_width"], result["original_height"])
    if kind == "brushlabels":
        width, height = size
        counts = masks.encode(decode_brush(value["rle"], height, width))
        box = masks.bounding_box(counts, height, width)
        return GivenRegion(str(labels[0]), box, rle_mask=counts, image_size=size)
    polygons: tuple[Polygon, ...] = ()
    if kind == "polygonlabels":
        points = [(float(x) / 100, float(y) / 100) for x, y in value["points"]]
        if len(points) < 3:
            raise UserError("a polygon of fewer than three points")
        xs, ys = zip(*points, strict=True)
        box = (min(xs), min(ys), max(xs), max(ys))
        polygons = (tuple(number for point in points for number in point),)
    else:
        x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
        box = (x, y, x + width, y + height)
    score = result.get("score", value.get("score"))
    return GivenRegion(
        tag=str(labels[0]),
        bbox=box,
        score=1.0 if score is None else float(score),
        is_relative=True,
        polygons=polygons,
        image_size=size,
    )
