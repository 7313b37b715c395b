"""The failed images by cause, and the command that annotates them again."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.filters import Filters

router = APIRouter()

_EXAMPLES = 5


@router.get("/failures")
def failures(request: Request, viewer: CurrentViewer) -> Response:
    """Causes, the most frequent first, with some images of each."""
    return viewer.page(
        request,
        "failures.html",
        title="Failures",
        active="failures",
        causes=[
            {**row, "href": Filters(status="failed", cause=row["cause"]).address("/")}
            for row in viewer.data.index.failures(_EXAMPLES)
        ],
        retry_command=viewer.retry_command,
        finished=viewer.data.contents.state == "finished",
    )
