"""Marks: set, renamed and taken back by a page, each kept before it is answered."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool

from pad_pipeline.records import Region
from pad_pipeline.review.events import Event, Verdict, new_event, region_digest
from pad_pipeline.review.marks import Marks
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.dependencies import CurrentViewer, ImageId, find_image
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.marked import image_state, regions_of
from pad_pipeline.view.viewer import Viewer

router = APIRouter()

_EVENTS_SHOWN = 200

Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class VerdictMark(BaseModel):
    """A verdict on an image, or on a region of it; None takes it away."""

    by: Name = ""
    kind: Literal["verdict"]
    image: str
    region: Annotated[int, Field(ge=0)] | None = None
    digest: str | None = None
    value: Verdict | None


class TagMark(BaseModel):
    """Another tag for a region; None gives it its own again."""

    by: Name = ""
    kind: Literal["tag"]
    image: str
    region: Annotated[int, Field(ge=0)]
    digest: str
    value: Tag | None


class SavedView(BaseModel):
    """Filters under a name; None removes them."""

    by: Name = ""
    kind: Literal["view"]
    name: Tag
    value: Annotated[str, StringConstraints(max_length=4000)] | None


class Undo(BaseModel):
    """Takes an event back."""

    by: Name = ""
    kind: Literal["undo"]
    value: str


class Body(BaseModel):
    """The body of a request."""

    event: Annotated[VerdictMark | TagMark | SavedView | Undo, Field(discriminator="kind")]


@router.get("/review")
def page(request: Request, viewer: CurrentViewer) -> Response:
    """What has been marked, last of all first, and the command that exports it."""
    marks, _ = viewer.read_review()
    return viewer.page(
        request,
        "review.html",
        title="Review",
        active="review",
        counts=marks.counts,
        place=viewer.review.url,
        views=sorted(marks.views.items()),
        commands=viewer.export_commands(request, Filters()),
        events=[_listed(marks, event) for event in reversed(marks.events[-_EVENTS_SHOWN:])],
    )


def _listed(marks: Marks, event: Event) -> dict[str, Any]:
    done = marks.find(event.value or "") if event.kind == "undo" else event
    image = done.image if done is not None else None
    query = f"region={done.region}" if done is not None and done.region is not None else ""
    return {
        "id": event.id,
        "at": event.at,
        "by": event.by,
        "what": ("took back: " if event.kind == "undo" else "") + _in_words(done),
        "image": image,
        "href": of_image(image, query=query) if image is not None else None,
        "is_undone": marks.is_undone(event),
    }


@router.get("/api/review/image/{image_id:id}")
def marks_of_image(viewer: CurrentViewer, image_id: ImageId) -> Response:
    """The marks of one image."""
    regions = _regions(viewer, image_id)
    return JSONResponse(image_state(viewer.review.marks(), image_id, regions))


@router.post("/api/review")
async def mark(request: Request, viewer: CurrentViewer) -> Response:
    """Adds one event; answers with it and the marks of its image once it is on the disk."""
    body = await viewer.writing.read(request)
    try:
        wanted = Body.model_validate_json(b'{"event":' + body + b"}").event
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][2:])
        raise HTTPException(422, f"this is no mark: {place} {first['msg']}".strip()) from error
    peer = request.client.host if request.client else ""
    return await run_in_threadpool(_write, viewer, wanted, viewer.reviewer or peer or "unknown")


def _write(
    viewer: Viewer, wanted: VerdictMark | TagMark | SavedView | Undo, default_name: str
) -> Response:
    image, regions = None, []
    if isinstance(wanted, VerdictMark | TagMark):
        image, regions = wanted.image, _regions(viewer, wanted.image)
        _check_region(wanted, regions)
    event = new_event(by=wanted.by or default_name, **wanted.model_dump(exclude={"by"}))
    done: Event | None = event
    if isinstance(wanted, Undo):
        done = viewer.review.marks().find(wanted.value)
        if done is None:
            raise HTTPException(404, "there is no such mark to take back")
        image = done.image
        with suppress(HTTPException):  # the data set may have lost the image since
            regions = [] if image is None else _regions(viewer, image)
    marks = viewer.review.write(event)
    state = None if image is None else image_state(marks, image, regions)
    return JSONResponse({"id": event.id, "done": _in_words(done), "image": image, "marks": state})


def _regions(viewer: Viewer, image_id: str) -> list[Region]:
    """An image's regions without masks; raises `HTTPException` (404) where there is none."""
    return regions_of(viewer.data.index.regions_at(find_image(viewer.data, image_id)["position"]))


def _check_region(wanted: VerdictMark | TagMark, regions: list[Region]) -> None:
    """Raises `HTTPException` where it is not the region that the page showed."""
    if wanted.region is None:
        if wanted.digest is not None:
            raise HTTPException(422, "this is no mark: digest without a region")
    elif wanted.region >= len(regions) or region_digest(regions[wanted.region]) != wanted.digest:
        raise HTTPException(
            409, "the region has changed since this page was loaded: load it again, then mark it"
        )


def _in_words(event: Event | None) -> str:
    """What an event has done, as pages and lists say it."""
    if event is None:
        return ""
    of = f"region {event.region + 1}" if event.region is not None else "the image"
    if event.kind == "view":
        return f"{'saved' if event.value is not None else 'removed'} the view {event.name}"
    if event.kind == "tag":
        return f"renamed {of} to {event.value}" if event.value else f"gave {of} its own tag again"
    return f"{event.value} {of}" if event.value else f"took the mark of {of} away"
