"""The viewer's web application: what all pages share; the pages themselves are in `routes_*`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from pad_pipeline import __version__, storage
from pad_pipeline.errors import UserError
from pad_pipeline.view import (
    routes_compare,
    routes_figures,
    routes_images,
    routes_pictures,
    routes_runs,
    routes_try,
)
from pad_pipeline.view.compare import Others
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.pages import FOLDER, render, tag_stylesheet
from pad_pipeline.view.pictures import NoPicture, Pictures
from pad_pipeline.view.runs import Run
from pad_pipeline.view.safety import guard
from pad_pipeline.view.source import DataSet

_PROBED = 4
_STATIC = {"style.css": "text/css", "page.js": "text/javascript", "image.js": "text/javascript"}
_STATIC |= {"runs.js": "text/javascript", "try.js": "text/javascript", "icon.svg": "image/svg+xml"}


@dataclass
class Viewer:
    """What the pages are made from."""

    data: DataSet
    pictures: Pictures
    runs: list[Run] = field(default_factory=list)
    service: str | None = None
    others: Others = field(default_factory=Others)
    """Data sets that this one is compared with."""
    _probed: tuple[Path, str | None] | None = None

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """An HTML page with what every page shows."""
        self.data.refresh()
        text = render(
            template,
            url=self.data.url,
            name=self.data.url.rstrip("/").rsplit("/", 1)[-1] or self.data.url,
            notices=self.notices(),
            num_failed=self.data.index.stats.images_by_status["failed"],
            has_runs=bool(self.runs),
            service=self.service,
            version=__version__,
            **values,
        )
        return HTMLResponse(text, status_code=status)

    def notices(self) -> list[str]:
        """Sentences that hold for the whole data set."""
        contents, index = self.data.contents, self.data.index
        found = []
        if self.data.is_growing:
            of = f" of {contents.num_expected:,}" if contents.num_expected else ""
            found.append(
                f"This data set is still being written: {index.stats.num_images:,}{of} images are "
                "there so far, and new ones appear here by themselves."
            )
        for name, problem in index.problems.items():
            found.append(f"The shard {name} cannot be read and is left out ({problem}).")
        if (missing := self._images_missing()) is not None:
            found.append(missing)
        return found

    def _images_missing(self) -> str | None:
        """Whether not one of the first images can be read, found out once per index."""
        index = self.data.index
        if self._probed is None or self._probed[0] != index.path:
            self._probed = (index.path, self._probe())
        return self._probed[1]

    def _probe(self) -> str | None:
        reason = None
        for row in self.data.index.images(Filters(status="ok"), _PROBED, 0):
            try:
                record = self.data.record_of(row)
                reason = self.pictures.missing(record)
            except UserError:
                continue
            if reason is None:
                return None
        if reason is None:
            return None
        where = (
            f"below {self.pictures.images}" if self.pictures.images else "where they were annotated"
        )
        return (
            f"The images cannot be read {where} ({reason}): start the viewer with --images and the "
            "folder or archive where they are now; everything else is shown without them."
        )

    @property
    def retry_command(self) -> str:
        """What annotates the failed images once more."""
        return shlex.join(["pad-pipeline", "retry-failed", self.data.url])


def make_app(viewer: Viewer, host: str = "127.0.0.1") -> FastAPI:
    """The application; `host` is the address that it is bound to."""
    app = FastAPI(title="pad-pipeline view", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard(host))
    for routes in (
        routes_images,
        routes_pictures,
        routes_figures,
        routes_compare,
        routes_runs,
        routes_try,
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
