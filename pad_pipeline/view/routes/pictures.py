"""The pictures: thumbnails, whole images, mask layers, and what stands in for a missing one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.view.pages import FOLDER
from pad_pipeline.view.pictures import NoPicture
from pad_pipeline.view.routes.images import find

if TYPE_CHECKING:
    from pad_pipeline.view.viewer import Viewer

_KEPT = {"Cache-Control": "private, max-age=300"}
_MISSING = {"Cache-Control": "no-store", "X-Picture": "missing"}


def add(app: FastAPI, viewer: Viewer) -> None:
    """Registers the routes."""

    def answer(
        request: Request, image_id: str, draw: Callable[[PadRecord], bytes], kind: str
    ) -> Response:
        other = request.query_params.get("other")
        data_set = viewer.data if other is None else viewer.others.opened(other)
        row = find(data_set, image_id or request.query_params.get("id", ""))
        try:
            data = draw(data_set.record_of(row))
        except (NoPicture, UserError):
            # A picture all the same: the page itself says in words why it is missing.
            data = (FOLDER / "static/missing.svg").read_bytes()
            return Response(data, media_type="image/svg+xml", headers=_MISSING)
        return Response(data, media_type=kind, headers=_KEPT)

    @app.get("/thumb/{image_id:id}")
    def thumb(request: Request, image_id: str, boxes: bool = True) -> Response:
        def draw(record: PadRecord) -> bytes:
            return viewer.pictures.thumbnail(record, boxes=boxes)

        return answer(request, image_id, draw, "image/jpeg")

    @app.get("/masks/{image_id:id}")
    def masks(request: Request, image_id: str) -> Response:
        return answer(request, image_id, viewer.pictures.masks, "image/jpeg")

    @app.get("/picture/{image_id:id}")
    def picture(request: Request, image_id: str) -> Response:
        return answer(request, image_id, viewer.pictures.whole, "image/jpeg")

    @app.get("/annotated/{image_id:id}")
    def annotated(request: Request, image_id: str) -> Response:
        return answer(request, image_id, viewer.pictures.annotated, "image/png")

    @app.get("/layer/{number}/{part}/{image_id:id}")
    def layer(request: Request, number: int, part: str, image_id: str) -> Response:
        def draw(record: PadRecord) -> bytes:
            if part not in ("fill", "rim") or not 0 <= number < len(record.labels):
                raise HTTPException(404, "there is no such layer")
            return viewer.pictures.layer(record, number, part)

        return answer(request, image_id, draw, "image/png")
