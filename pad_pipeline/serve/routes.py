"""The routes of the service: annotation, probes, documentation and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.given import check_given
from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageLimits
from pad_pipeline.records import PadRecord
from pad_pipeline.serve import docs, responses
from pad_pipeline.serve.admission import AdmissionControl
from pad_pipeline.serve.api_error import ApiError, error_responses
from pad_pipeline.serve.openapi import BATCH_BODY, IMAGE_BODY, RECORD_OR_PICTURE
from pad_pipeline.serve.parameters import AnnotateOptions, BatchOptions, merge_form_fields
from pad_pipeline.serve.request_body import Upload, check_headers, read_body

MAX_IMAGES = 64
"""Images in one request."""
DEFAULT_NAME = "image"

annotation = APIRouter()
metrics = APIRouter()
public = APIRouter()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the routes need to know of the config."""

    box_threshold: float
    limits: ImageLimits
    max_body_bytes: int
    timeout_s: float
    api_key: str | None = None
    config: AnnotateConfig | None = None
    """What the models are not to find must be given with an image."""

    def check(self, sample: Sample) -> Sample:
        """The sample; raises `ApiError` (422) where it lacks what must be given."""
        try:
            check_given(self.config, sample)
        except UserError as error:
            raise ApiError(422, "bad_parameter", str(error)) from error
        return sample


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes call.

    `annotate` takes one sample through all stages and never raises; `metrics` gives Prometheus'
    text, None where there is none.
    """

    annotate: Callable[[Sample], Awaitable[Sample]]
    admission: AdmissionControl
    settings: Settings
    metrics: Callable[[], Awaitable[str]] | None = None

    async def annotate_all(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples after all stages; raises `ApiError` (504) past the time limit."""
        timeout_s = self.settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.gather(*map(self.annotate, samples))
        except TimeoutError:
            raise ApiError(504, "timeout", f"no result after {timeout_s:g} s (timeout_s)") from None


def _service(request: Request) -> Service:
    return request.app.state.service


CurrentService = Annotated[Service, Depends(_service)]


@annotation.post(
    "/annotate",
    summary="Annotate one image.",
    responses={200: RECORD_OR_PICTURE, **error_responses()},
    openapi_extra=IMAGE_BODY,
)
async def annotate_one(
    request: Request, service: CurrentService, options: Annotated[AnnotateOptions, Query()]
) -> Response:
    """The image is the body, or a file named `image` in a form; its format is found by content."""
    settings = service.settings
    # The body is not read by FastAPI: before it is, it must be admitted and its size bounded.
    check_headers(request, settings.max_body_bytes)
    options.check(settings.box_threshold)
    with service.admission.slot():
        body = await read_body(request, settings.max_body_bytes)
        options = merge_form_fields(options, body.fields)
        options.check(settings.box_threshold)
        [upload] = body.uploads
        name = options.image_id or upload.name or DEFAULT_NAME
        sample = settings.check(options.give(_to_sample(upload, name, options.caption)))
        [sample] = await service.annotate_all([sample])
        record = responses.selected_record(sample, options)
        responses.raise_for_error(record)
        if not options.render:
            return JSONResponse(responses.record_json(record))
        png = await asyncio.to_thread(responses.render_png, upload.data, record, settings.limits)
        return Response(png, media_type="image/png")


@annotation.post(
    "/annotate/batch",
    summary="Annotate several images; each has a status of its own.",
    response_description="The records, in the order of the images.",
    responses={200: {"model": list[PadRecord]}, **error_responses()},
    openapi_extra=BATCH_BODY,
)
async def annotate_batch(
    request: Request, service: CurrentService, options: Annotated[BatchOptions, Query()]
) -> Response:
    """The images are files named `image` in a form; the records are in their order."""
    settings = service.settings
    max_images = min(MAX_IMAGES, service.admission.max_queued)
    check_headers(request, settings.max_body_bytes, form_only=True)
    options.check(settings.box_threshold)
    with service.admission.slot() as slot:
        body = await read_body(request, settings.max_body_bytes, max_images=max_images)
        options = merge_form_fields(options, body.fields)
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
            _to_sample(upload, upload.name or f"{DEFAULT_NAME}-{index}", caption)
            for index, (upload, caption) in enumerate(zip(body.uploads, captions, strict=True))
        ]
        samples = [settings.check(sample) for sample in options.give(samples)]
        annotated = await service.annotate_all(samples)
        records = [responses.selected_record(sample, options) for sample in annotated]
        return JSONResponse([responses.record_json(record) for record in records])


@public.get(
    "/healthz", summary="Whether the process is alive.", response_description="It is alive."
)
async def healthz() -> dict[str, str]:
    """The process answers, whether the models are loaded or not."""
    return {"status": "alive"}


@public.get(
    "/readyz",
    summary="Whether the models are loaded.",
    response_description="Images can be sent.",
    responses=error_responses(503),
)
async def readyz(service: CurrentService) -> dict[str, str]:
    """For load balancers: 503 until the models are loaded, and while the service shuts down."""
    service.admission.check()
    return {"status": "ready"}


@public.get("/docs", include_in_schema=False)
async def docs_page(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page that loads nothing from elsewhere, which FastAPI's would."""
    url = str(request.base_url).rstrip("/")
    return HTMLResponse(docs.page(request.app.openapi(), url), headers=docs.HEADERS)


@public.get("/", include_in_schema=False)
async def front_page() -> RedirectResponse:
    """Who opens the service's address in a browser sees what it offers."""
    return RedirectResponse("docs")


@metrics.get(
    "/metrics",
    summary="Ray's metrics of this machine, for Prometheus.",
    response_description="The metrics as text.",
    response_class=PlainTextResponse,
    responses=error_responses(401, 403, 503),
)
async def prometheus(service: CurrentService) -> PlainTextResponse:
    """The metrics of Ray and of the stages on the node that answers."""
    assert service.metrics is not None
    return PlainTextResponse(await service.metrics(), media_type="text/plain; version=0.0.4")


def _to_sample(upload: Upload, name: str, caption: str | None) -> Sample:
    return Sample(image_id=name, uri="", caption=caption, data=upload.data)
