"""Files that pages load, the colours of tags as a style sheet, and the state of the server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from pad_pipeline import storage
from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.pages import FOLDER, tag_stylesheet

router = APIRouter()

STATIC = FOLDER / "static"
_CACHED = {"Cache-Control": "public, max-age=60"}


class CachedFiles(StaticFiles):
    """Static files that browsers keep for a minute."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """The response of a file, with its header for caches."""
        response = super().file_response(*arguments, **options)
        response.headers.update(_CACHED)
        return response


@router.get("/static/tags.css")
def tags_css() -> Response:
    """The colours of tags: the only style sheet that is computed."""
    return Response(tag_stylesheet(), media_type="text/css", headers=_CACHED)


@router.get("/favicon.ico")
def favicon() -> Response:
    """The icon, for browsers that ask for it without reading the page."""
    return FileResponse(STATIC / "icon.svg", headers=_CACHED)


@router.get("/healthz")
def healthz(viewer: CurrentViewer) -> dict[str, Any]:
    """What is shown, for monitors."""
    viewer.data.refresh()
    index = viewer.data.index
    return {
        "status": "ok",
        "data_set": storage.absolute(viewer.data.url),
        "state": viewer.data.contents.state,
        "images": index.stats.num_images,
        "regions": index.stats.num_regions,
        "unreadable_shards": index.problems,
    }
