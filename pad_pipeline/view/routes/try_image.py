"""The page that sends one image to an annotation service and shows what comes back."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from pad_pipeline.view.safety import comes_from_elsewhere

if TYPE_CHECKING:
    from pad_pipeline.view.viewer import Viewer

MOST_BYTES = 64 << 20
TIMEOUT_S = 120.0
_PASSED = ("application/json", "image/png")


def add(app: FastAPI, viewer: Viewer) -> None:
    """Registers the routes."""

    @app.get("/try")
    def page() -> Response:
        _service(viewer)
        return viewer.page("try.html", title="Try an image", active="try", most_bytes=MOST_BYTES)

    @app.post("/try/annotate")
    async def annotate(request: Request, render: bool = False) -> Response:
        service = _service(viewer)
        if comes_from_elsewhere(request):
            raise HTTPException(403, "another web site may not use this page")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"the image is larger than {MOST_BYTES >> 20} MiB")
        kind = request.headers.get("content-type", "application/octet-stream")
        url = f"{service.rstrip('/')}/annotate" + ("?render=1" if render else "")
        return await run_in_threadpool(_ask, url, bytes(body), kind)


def _service(viewer: Viewer) -> str:
    if viewer.service is None:
        raise HTTPException(
            404, "no service is given: start the viewer with --service and the service's address"
        )
    return viewer.service


def _ask(url: str, body: bytes, kind: str) -> Response:
    """The service's answer, passed on where it is JSON or a PNG."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            status, headers, data = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        status, headers, data = error.code, error.headers, error.read()
    except OSError as error:
        reason = getattr(error, "reason", error)
        told = f"no service answers at {url} ({reason}): start it with `pad-pipeline serve`"
        return JSONResponse({"error": told}, status_code=502)
    found = headers.get_content_type()
    if found not in _PASSED:
        return JSONResponse(
            {"error": f"the service at {url} answered {status} with {found}, not JSON or a PNG"},
            status_code=502,
        )
    return Response(data, status_code=status, media_type=found)
