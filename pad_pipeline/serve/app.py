"""The service as an ASGI application: its routers, its key and its error handlers."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from pad_pipeline import __version__
from pad_pipeline.serve import routes
from pad_pipeline.serve.api_error import ApiError, error_json
from pad_pipeline.serve.auth import require_key
from pad_pipeline.serve.parameters import to_api_error

logger = logging.getLogger(__name__)

_CAUSES = {404: "not_found", 405: "method_not_allowed"}


def build_app(service: routes.Service) -> FastAPI:
    """The application over `service`; a key is required where its settings have one."""
    app = FastAPI(
        title="pad-pipeline",
        version=__version__,
        description="Tags, boxes and masks of images, as PAD records.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    key = service.settings.api_key
    guarded = [] if key is None else [Depends(require_key(key))]
    app.include_router(routes.annotation, dependencies=guarded)
    app.include_router(routes.public)
    if service.metrics is not None:
        app.include_router(routes.metrics, dependencies=guarded)
    _add_error_handlers(app)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Every error is JSON with a cause."""

    def respond(
        status: int, cause: str, message: str, headers: Mapping[str, str] | None = None
    ) -> JSONResponse:
        return JSONResponse(error_json(cause, message), status, headers)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return respond(error.status, error.cause, error.message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await api_error(request, to_api_error(error.errors()))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        message = {
            404: f"there is no {request.url.path}; /docs lists the routes",
            405: f"{request.url.path} does not take {request.method}",
        }.get(error.status_code, str(error.detail))
        cause = _CAUSES.get(error.status_code, "bad_request")
        return respond(error.status_code, cause, message, error.headers)

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        logger.error("a request failed within the service: %r", error)
        return respond(500, "internal", f"the service failed: {type(error).__name__}")
