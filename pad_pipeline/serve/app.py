"""The routes of the service as an ASGI application; what annotates is given to it."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from pad_pipeline import __version__
from pad_pipeline.engine.sample import Sample
from pad_pipeline.images import ImageLimits
from pad_pipeline.records import PadRecord
from pad_pipeline.serve import docs, responses
from pad_pipeline.serve.admission import AdmissionControl
from pad_pipeline.serve.api_error import ApiError, documented, error_json
from pad_pipeline.serve.openapi import BATCH_BODY, IMAGE_BODY, RECORD_OR_PICTURE
from pad_pipeline.serve.parameters import AnnotateOptions, BatchOptions, bad_parameters, with_fields
from pad_pipeline.serve.request_body import Upload, check_headers, read_body

logger = logging.getLogger(__name__)

MAX_IMAGES = 64
"""Images in one request."""
NO_NAME = "image"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the routes need to know of the config."""

    box_threshold: float
    limits: ImageLimits
    max_body_bytes: int
    timeout_s: float
    api_key: str | None = None


def build_app(
    annotate: Callable[[Sample], Awaitable[Sample]],
    admission: AdmissionControl,
    settings: Settings,
    metrics: Callable[[], Awaitable[str]] | None = None,
) -> FastAPI:
    """The service over `annotate`, which leads one sample through all stages and never raises.

    `metrics` gives Prometheus' text.
    """
    app = FastAPI(
        title="pad-pipeline",
        version=__version__,
        description="Tags, boxes and masks of images, as PAD records.",
        docs_url=None,
        redoc_url=None,
    )
    _answer_errors(app)
    allowed = [Depends(_key_check(settings.api_key))]
    service = _Service(annotate, admission, settings)

    @app.post(
        "/annotate",
        summary="Annotate one image.",
        dependencies=allowed,
        responses={200: RECORD_OR_PICTURE, **documented()},
        openapi_extra=IMAGE_BODY,
    )
    async def annotate_one(
        request: Request, options: Annotated[AnnotateOptions, Query()]
    ) -> Response:
        return await service.one(request, options)

    @app.post(
        "/annotate/batch",
        summary="Annotate several images; each has a status of its own.",
        dependencies=allowed,
        responses={200: {"model": list[PadRecord]}, **documented()},
        openapi_extra=BATCH_BODY,
    )
    async def annotate_batch(
        request: Request, options: Annotated[BatchOptions, Query()]
    ) -> Response:
        return await service.batch(request, options)

    @app.get("/healthz", summary="Whether the process is alive.")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Whether the models are loaded.", responses=documented(503))
    async def readyz() -> dict[str, str]:
        admission.check()
        return {"status": "ready"}

    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(docs.page(app.openapi()), headers=docs.HEADERS)

    if metrics is not None:

        @app.get(
            "/metrics",
            summary="Ray's metrics of this machine, for Prometheus.",
            dependencies=allowed,
            response_class=PlainTextResponse,
            responses=documented(401, 403, 503),
        )
        async def prometheus() -> PlainTextResponse:
            return PlainTextResponse(await metrics(), media_type="text/plain; version=0.0.4")

    return app


class _Service:
    """The two routes that annotate."""

    def __init__(
        self,
        annotate: Callable[[Sample], Awaitable[Sample]],
        admission: AdmissionControl,
        settings: Settings,
    ) -> None:
        self._annotate = annotate
        self._admission = admission
        self._settings = settings

    async def one(self, request: Request, options: AnnotateOptions) -> Response:
        settings = self._settings
        check_headers(request, settings.max_body_bytes)
        options.check(settings.box_threshold)
        with self._admission.slot():
            body = await read_body(request, settings.max_body_bytes)
            options = with_fields(options, body.fields)
            options.check(settings.box_threshold)
            [upload] = body.uploads
            name = options.image_id or upload.name or NO_NAME
            [sample] = await self._run([_to_sample(upload, name, options.caption)])
            record = responses.answer(sample, options)
            responses.check(record)
            if not options.render:
                return JSONResponse(responses.record_json(record))
            png = await asyncio.to_thread(
                responses.render_png, upload.data, record, settings.limits
            )
            return Response(png, media_type="image/png")

    async def batch(self, request: Request, options: BatchOptions) -> Response:
        settings = self._settings
        most = min(MAX_IMAGES, self._admission.max_queued)
        check_headers(request, settings.max_body_bytes, form_only=True)
        options.check(settings.box_threshold)
        with self._admission.slot() as slot:
            body = await read_body(request, settings.max_body_bytes, max_images=most)
            options = with_fields(options, body.fields)
            options.check(settings.box_threshold)
            captions: list[str | None] = [*options.caption] or [None] * len(body.uploads)
            if len(captions) != len(body.uploads):
                raise ApiError(
                    422,
                    "bad_parameter",
                    f"expected no caption or one for each of the {len(body.uploads)} images, "
                    f"found {len(captions)}",
                )
            slot.grow(len(body.uploads) - 1)
            samples = [
                _to_sample(upload, upload.name or f"{NO_NAME}-{index}", caption)
                for index, (upload, caption) in enumerate(zip(body.uploads, captions, strict=True))
            ]
            records = [responses.answer(done, options) for done in await self._run(samples)]
            return JSONResponse([responses.record_json(record) for record in records])

    async def _run(self, samples: Sequence[Sample]) -> list[Sample]:
        timeout_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.gather(*map(self._annotate, samples))
        except TimeoutError:
            raise ApiError(
                504, "timeout", f"no result after {timeout_s:g} s (--timeout-s)"
            ) from None


def _to_sample(upload: Upload, name: str, caption: str | None) -> Sample:
    return Sample(image_id=name, uri="", caption=caption, data=upload.data)


def _key_check(key: str | None) -> Callable[..., Awaitable[None]]:
    """What lets only requests with the key pass, which two headers may hold."""
    if key is None:

        async def pass_all() -> None:
            return

        return pass_all

    async def check(
        bearer: Annotated[
            HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
        ],
        header: Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))],
    ) -> None:
        given = header or (bearer.credentials if bearer else None)
        if not given:
            raise ApiError(
                401,
                "no_api_key",
                "expected the service's API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                {"WWW-Authenticate": "Bearer"},
            )
        if not hmac.compare_digest(given.encode(), key.encode()):
            raise ApiError(403, "wrong_api_key", "the API key is not the service's")

    return check


def _answer_errors(app: FastAPI) -> None:
    """Every answer that is an error is JSON with a cause."""

    def answer(status: int, cause: str, message: str, headers: Any = None) -> JSONResponse:
        return JSONResponse(error_json(cause, message), status, headers)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return answer(error.status, error.cause, error.message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        told = bad_parameters(error.errors())
        return answer(told.status, told.cause, told.message)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        causes = {404: "not_found", 405: "method_not_allowed"}
        message = {
            404: f"there is no {request.url.path}; /docs lists what there is",
            405: f"{request.url.path} takes no {request.method}",
        }.get(error.status_code, str(error.detail))
        cause = causes.get(error.status_code, "bad_request")
        return answer(error.status_code, cause, message, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        logger.error("a request failed within the service: %r", error)
        return answer(500, "internal", f"the service failed: {type(error).__name__}")
