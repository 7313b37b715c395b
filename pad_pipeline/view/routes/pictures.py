"""The pictures: thumbnails, whole images, mask layers, and what stands in for a missing one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from pad_pipeline import __version__
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.review.marks import ImageMarks, Marks
from pad_pipeline.view.dependencies import CurrentViewer, ImageId, find_image
from pad_pipeline.view.marked import renamed
from pad_pipeline.view.pictures import NoPicture
from pad_pipeline.view.queries import Row
from pad_pipeline.view.routes.assets import STATIC
from pad_pipeline.view.source import DataSet

router = APIRouter()

_CACHED = {"Cache-Control": "private, max-age=300"}
_ASKED_AGAIN = {"Cache-Control": "private, no-cache"}
"""Kept as well, but not shown again before the server has said that nothing has changed."""
_MISSING = {"Cache-Control": "no-store", "X-Picture": "missing"}

Draw = Callable[[Callable[[PadRecord], bytes], str], Response]


def _drawing(
    request: Request, viewer: CurrentViewer, image_id: ImageId, other: str | None = None
) -> Draw:
    """Answers with a picture of the path's image, in the data set or in the compared `other`."""
    data_set = viewer.data if other is None else viewer.comparisons.opened(other)
    row = find_image(data_set, image_id)
    marks = viewer.read_review()[0] if other is None else Marks()
    version = _version(data_set, row, marks)

    def answer(draw: Callable[[PadRecord], bytes], media_type: str) -> Response:
        headers = {**_ASKED_AGAIN, "ETag": version}
        if version in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return picture_answer(
            data_set, row, lambda record: draw(renamed(record, marks)), media_type, headers
        )

    return answer


def _version(data_set: DataSet, row: Row, marks: Marks) -> str:
    """An entity tag: another one once the record, its new tags or the way of drawing differ."""
    image = marks.images.get(row["image_id"], ImageMarks())
    drawn = (__version__, data_set.index.path.name, row["position"], image.new_tags)
    return f'"{hashlib.sha256(repr(drawn).encode()).hexdigest()[:24]}"'


def picture_answer(
    data_set: DataSet,
    row: Row,
    draw: Callable[[PadRecord], bytes],
    media_type: str,
    headers: Mapping[str, str] = _CACHED,
) -> Response:
    """What `draw` makes of a row's record, or the picture that stands in for a missing one."""
    try:
        data = draw(data_set.record_of(row))
    except (NoPicture, UserError):
        # A picture all the same: the page of the image gives the reason in words.
        data = (STATIC / "missing.svg").read_bytes()
        return Response(data, media_type="image/svg+xml", headers=_MISSING)
    return Response(data, media_type=media_type, headers=dict(headers))


Drawing = Annotated[Draw, Depends(_drawing)]


@router.get("/thumb/{image_id:id}")
def thumb(viewer: CurrentViewer, drawing: Drawing, boxes: bool = True) -> Response:
    """A small picture with masks."""
    return drawing(lambda record: viewer.pictures.thumbnail(record, boxes=boxes), "image/jpeg")


@router.get("/masks/{image_id:id}")
def masks(viewer: CurrentViewer, drawing: Drawing) -> Response:
    """The image with masks alone."""
    return drawing(viewer.pictures.masks, "image/jpeg")


@router.get("/picture/{image_id:id}")
def picture(viewer: CurrentViewer, drawing: Drawing) -> Response:
    """The image without anything over it."""
    return drawing(viewer.pictures.whole, "image/jpeg")


@router.get("/annotated/{image_id:id}")
def annotated(viewer: CurrentViewer, drawing: Drawing) -> Response:
    """The picture that `render` draws."""
    return drawing(viewer.pictures.annotated, "image/png")


@router.get("/layer/{number}/{part}/{image_id:id}")
def layer(viewer: CurrentViewer, drawing: Drawing, number: int, part: str) -> Response:
    """The mask of one region, its fill or its rim, over a transparent ground."""

    def draw(record: PadRecord) -> bytes:
        if part not in ("fill", "rim") or not 0 <= number < len(record.labels):
            raise HTTPException(404, "there is no such layer")
        return viewer.pictures.layer(record, number, part)

    return drawing(draw, "image/png")


@router.get("/crop/{number}/{image_id:id}")
def crop(viewer: CurrentViewer, drawing: Drawing, number: int, dimmed: bool = True) -> Response:
    """One region cut out of its image, what is not of it dimmed."""

    def draw(record: PadRecord) -> bytes:
        if not 0 <= number < len(record.labels):
            raise HTTPException(404, "there is no such region")
        return viewer.pictures.crop(record, number, dimmed=dimmed)

    return drawing(draw, "image/jpeg")
