"""The service's routes over fakes, called in this process without a socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from PIL import Image

from pad_pipeline.engine.sample import Sample
from pad_pipeline.images import ImageLimits
from pad_pipeline.serve.admission import AdmissionControl
from pad_pipeline.serve.app import build_app
from pad_pipeline.serve.routes import Service as Routes
from pad_pipeline.serve.routes import Settings
from tests import fakes

BOX_THRESHOLD = 0.2
MAX_BODY_BYTES = 20_000
PNG = {"content-type": "image/png"}

Annotate = Callable[[Sample], Awaitable[Sample]]
Scenario = Callable[["Service"], Awaitable[Any]]


class Service:
    """An application, its admission, and a client for it."""

    def __init__(self, annotate: Annotate | None = None, **changes: Any) -> None:
        max_queued = changes.pop("max_queued", 4)
        metrics = changes.pop("metrics", None)
        values: dict[str, Any] = {
            "box_threshold": BOX_THRESHOLD,
            "limits": ImageLimits(max_pixels=10_000),
            "max_body_bytes": MAX_BODY_BYTES,
            "timeout_s": 5.0,
        }
        self.admission = AdmissionControl(max_queued)
        self.admission.state = "ready"
        settings = Settings(**{**values, **changes})
        self.app = build_app(Routes(annotate or chain(), self.admission, settings, metrics))
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")

    async def post(self, path: str = "/annotate", **options: Any) -> httpx.Response:
        if "content" in options:
            options["headers"] = {**PNG, **options.get("headers", {})}
        return await self.client.post(path, **options)


def chain() -> Annotate:
    """The fake stages, one sample at a time."""
    stages = fakes.build_all({})

    async def annotate(sample: Sample) -> Sample:
        return stages([sample])[0]

    return annotate


def play(scenario: Scenario, annotate: Annotate | None = None, **changes: Any) -> Any:
    """What the scenario returns for a service with these settings."""

    async def run() -> Any:
        service = Service(annotate, **changes)
        async with service.client:
            return await scenario(service)

    return asyncio.run(asyncio.wait_for(run(), 30))


def png(shade: int = 220, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def cause(answer: httpx.Response) -> tuple[int, str]:
    """Status and cause of an error; its form is checked."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"cause", "message"}
    assert body["error"]["message"]
    return answer.status_code, body["error"]["cause"]
