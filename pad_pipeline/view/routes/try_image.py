"""The page that sends one image to an annotation service and shows what comes back."""

from __future__ import annotations

import urllib.error
import urllib.request

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.safety import comes_from_elsewhere
from pad_pipeline.view.viewer import Viewer

router = APIRouter(prefix="/try")

MAX_BYTES = 64 << 20
TIMEOUT_S = 120.0
_PASSED_ON = ("application/json", "image/png")


@router.get("")
def page(request: Request, viewer: CurrentViewer) -> Response:
    """The form."""
    _service(viewer)
    return viewer.page(request, "try.html", title="Try an image", active="try", max_bytes=MAX_BYTES)


@router.post("/annotate")
async def annotate(request: Request, viewer: CurrentViewer, render: bool = False) -> Response:
    """What the service answers to the image in the body."""
    service = _service(viewer)
    if comes_from_elsewhere(request):
        raise HTTPException(403, "another web site may not use this page")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"the image is larger than {MAX_BYTES >> 20} MiB")
    media_type = request.headers.get("content-type", "application/octet-stream")
    url = f"{service.rstrip('/')}/annotate" + ("?render=1" if render else "")
    return await run_in_threadpool(_forward, url, bytes(body), media_type)


def _service(viewer: Viewer) -> str:
    if viewer.service is None:
        raise HTTPException(
            404, "there is no service: start `pad-pipeline view` with --service and its address"
        )
    return viewer.service


def _forward(url: str, body: bytes, media_type: str) -> Response:
    """The service's response, passed on where it is JSON or a PNG."""
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": media_type}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            status, headers, data = response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        status, headers, data = error.code, error.headers, error.read()
    except OSError as error:
        reason = getattr(error, "reason", error)
        return _bad_gateway(
            f"no service answers at {url} ({reason}): start it with `pad-pipeline serve`"
        )
    found = headers.get_content_type()
    if found not in _PASSED_ON:
        return _bad_gateway(
            f"the service at {url} answered {status} with {found}, not JSON or a PNG"
        )
    return Response(data, status_code=status, media_type=found)


def _bad_gateway(sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=502)
