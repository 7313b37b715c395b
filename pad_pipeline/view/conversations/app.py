"""The application that shows a folder of conversations: a page of entries, and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteError
from starlette.middleware.base import BaseHTTPMiddleware

from pad_pipeline.cognition.decoding import IndexDecoder
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.sources import read_many
from pad_pipeline.view.conversations.entries import (
    ConversationPages,
    answer_of,
    image_path,
    notes_of,
    shown_turns,
)
from pad_pipeline.view.conversations.pictures import (
    draw_colours,
    draw_decoded,
    draw_frame,
    draw_indices,
)
from pad_pipeline.view.pages import TEMPLATES
from pad_pipeline.view.parameters import LARGEST_PAGE, describe
from pad_pipeline.view.reconstructions import VlsaRun
from pad_pipeline.view.routes.assets import STATIC, CachedFiles, favicon
from pad_pipeline.view.safety import guard

_PER_PAGE = 6

Number = Annotated[int, Query(ge=0, le=LARGEST_PAGE)]


def make_app(
    pages: ConversationPages,
    host: str = "127.0.0.1",
    *,
    decoder: IndexDecoder | str = "no VQ model was given",
    vlsa_runs: Sequence[VlsaRun] = (),
) -> FastAPI:
    """The application; `host` is the address that it is bound to.

    `decoder` makes pictures of indices, or is the reason why there is none. `vlsa_runs` are trained
    runs whose reconstructions stand above.
    """
    app = FastAPI(title="pad-pipeline view", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard(host))
    app.mount("/static", CachedFiles(directory=STATIC))
    app.get("/favicon.ico")(favicon)

    def page(request: Request, status: int = 200, **values: Any) -> Response:
        context = {
            "name": pages.url.rstrip("/").rsplit("/", 1)[-1],
            "url": pages.url,
            "settings": pages.settings,
            "counts": pages.counts,
            "num_shards": pages.num_shards,
            "decoder": decoder,
            "vlsa_runs": vlsa_runs,
            **values,
        }
        return TEMPLATES.TemplateResponse(request, "conversations.html", context, status)

    def entry(shard: int, row: int) -> dict[str, Any]:
        found = pages.entry(shard, row)
        if found is None:
            raise HTTPException(404, "there is no such conversation")
        return found

    @app.get("/")
    def show(request: Request, shard: Number = 0, start: Number = 0) -> Response:
        """Some entries of a shard."""
        if shard >= pages.num_shards and pages.num_shards:
            raise HTTPException(404, f"there are {pages.num_shards:,} files, numbered from 0")
        number = len(pages.lines(shard)) if pages.num_shards else 0
        rows = range(start, min(start + _PER_PAGE, number))
        shown = [_shown(pages, shard, row) for row in rows]
        following = (shard, rows.stop) if rows.stop < number else (shard + 1, 0)
        return page(
            request,
            sentence=None,
            entries=shown,
            shard=shard,
            first=start,
            number=number,
            following=following if following[0] < pages.num_shards else None,
            previous=(shard, max(0, start - _PER_PAGE)) if start else None,
        )

    @app.get("/frame/{shard}/{row}")
    def frame(shard: int, row: int) -> Response:
        """The image in its frame."""
        value = entry(shard, row)
        path = image_path(value)
        if path is None:
            raise HTTPException(404, "this conversation has no image")
        try:
            [data] = read_many([pages.locate(path)])
            if isinstance(data, Exception):
                raise UserError(str(data))
            pixels = decode_image(data)
        except (UserError, ImageError) as error:
            raise HTTPException(404, f"the image cannot be read: {error}") from error
        return _png(draw_frame(pixels, pages.settings, notes_of(value)))

    @app.get("/indices/{shard}/{row}")
    def indices(shard: int, row: int) -> Response:
        """The indices as a picture."""
        found = answer_of(entry(shard, row), "high")
        if found is None:
            raise HTTPException(404, "this conversation has no indices")
        return _png(draw_indices(found[0], found[1]["grid"]))

    @app.get("/decoded/{shard}/{row}")
    def decoded(shard: int, row: int) -> Response:
        """What the VQ model makes of the indices."""
        found = answer_of(entry(shard, row), "high")
        if found is None:
            raise HTTPException(404, "this conversation has no indices")
        if isinstance(decoder, str):
            raise HTTPException(404, decoder)
        return _png(draw_decoded(found[0], found[1]["grid"], decoder))

    @app.get("/runs/reconstructions/{number}")
    def reconstructions(number: int) -> Response:
        """Images and their reconstructions of a run of `train vlsa`."""
        data = vlsa_runs[number].picture() if 0 <= number < len(vlsa_runs) else None
        if data is None:
            raise HTTPException(404, "there is no such picture")
        return _png(data)

    @app.get("/colours/{shard}/{row}")
    def colours(shard: int, row: int) -> Response:
        """The colours as a picture."""
        found = answer_of(entry(shard, row), "low")
        if found is None:
            raise HTTPException(404, "this conversation has no colours")
        return _png(draw_colours(found[0], found[1]["grid"]))

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        return page(request, 400, sentence=str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return page(request, 400, sentence=describe(error.errors()[0]))

    @app.exception_handler(StarletteError)
    async def http_error(request: Request, error: StarletteError) -> Response:
        return page(request, error.status_code, sentence=str(error.detail))

    return app


def _shown(pages: ConversationPages, shard: int, row: int) -> dict[str, Any]:
    """What the template needs of one entry."""
    value = pages.entry(shard, row)
    if value is None:
        return {"id": f"{shard}/{row}", "row": row, "image": None, "notes": {}, "turns": ()}
    return {
        "id": str(value.get("id", f"{shard}/{row}"))[:80],
        "row": row,
        "image": image_path(value),
        "notes": {note["level"]: note for note in notes_of(value)},
        "turns": shown_turns(value),
    }


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})
