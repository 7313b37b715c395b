"""The viewer's web application: its routers, static files and what errors are answered with."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from pad_pipeline.errors import UserError
from pad_pipeline.view.parameters import describe
from pad_pipeline.view.pictures import NoPicture
from pad_pipeline.view.routes import (
    api,
    assets,
    compare,
    crops,
    evaluations,
    failures,
    grid,
    image,
    look_alikes,
    pictures,
    review,
    runs,
    stats,
    tags,
    truth,
    try_image,
)
from pad_pipeline.view.safety import guard
from pad_pipeline.view.viewer import Viewer

ROUTES = (
    grid,
    image,
    api,
    review,
    pictures,
    tags,
    crops,
    stats,
    failures,
    compare,
    truth,
    look_alikes,
    runs,
    evaluations,
    try_image,
    assets,
)


def make_app(viewer: Viewer, host: str = "127.0.0.1") -> FastAPI:
    """The application; `host` is the address that it is bound to."""
    app = FastAPI(title="pad-pipeline view", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.viewer = viewer
    app.add_middleware(BaseHTTPMiddleware, dispatch=viewer.writing.take_token)
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard(host))
    for module in ROUTES:
        app.include_router(module.router)
    app.mount("/static", assets.CachedFiles(directory=assets.STATIC))
    _answer_errors(app, viewer)
    return app


def _answer_errors(app: FastAPI, viewer: Viewer) -> None:
    """Every error is one sentence: on a page, or as JSON below /api/ and /try/."""

    def answer(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith(("/api/", "/try/")):
            return JSONResponse({"error": sentence}, status_code=status)
        return viewer.page(
            request, "error.html", status, title=sentence[:80], sentence=sentence, active=""
        )

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        return answer(request, 400, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return answer(request, 404, "there is no such page")
        return answer(request, 400, describe(first))

    @app.exception_handler(NoPicture)
    async def no_picture(request: Request, error: NoPicture) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))
