"""The viewer's web application: its routes, static files and answers to errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.view.pages import FOLDER, tag_stylesheet
from pad_pipeline.view.pictures import NoPicture
from pad_pipeline.view.routes import compare, figures, images, pictures, runs, try_image
from pad_pipeline.view.safety import guard
from pad_pipeline.view.viewer import Viewer

_STATIC = {"style.css": "text/css", "page.js": "text/javascript", "image.js": "text/javascript"}
_STATIC |= {"runs.js": "text/javascript", "try.js": "text/javascript", "icon.svg": "image/svg+xml"}


def make_app(viewer: Viewer, host: str = "127.0.0.1") -> FastAPI:
    """The application; `host` is the address that it is bound to."""
    app = FastAPI(title="pad-pipeline view", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard(host))
    for routes in (
        images,
        pictures,
        figures,
        compare,
        runs,
        try_image,
    ):
        routes.add(app, viewer)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name == "tags.css":
            return Response(tag_stylesheet(), media_type="text/css", headers=_KEPT)
        if name not in _STATIC:
            raise HTTPException(404, "there is no such file")
        data = (FOLDER / "static" / name).read_bytes()
        return Response(data, media_type=_STATIC[name], headers=_KEPT)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return static("icon.svg")

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
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

    def told(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith(("/api/", "/try/")):
            return JSONResponse({"error": sentence}, status_code=status)
        return viewer.page("error.html", status, title=sentence[:80], sentence=sentence, active="")

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        return told(request, 400, str(error))

    @app.exception_handler(NoPicture)
    async def no_picture(request: Request, error: NoPicture) -> Response:
        return told(request, 404, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return told(request, error.status_code, str(error.detail))

    return app


_KEPT = {"Cache-Control": "public, max-age=60"}
