"""The page that puts two data sets beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from pad_pipeline.errors import UserError
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.compare import SAME_IOU, Comparison, Show
from pad_pipeline.view.filters import whole_number
from pad_pipeline.view.overlay import sketch
from pad_pipeline.view.queries import Row
from pad_pipeline.view.safety import comes_from_elsewhere

if TYPE_CHECKING:
    from pad_pipeline.view.viewer import Viewer

PER_PAGE = 12
SHOWS: tuple[Show, ...] = get_args(Show)


def add(app: FastAPI, viewer: Viewer) -> None:
    """Registers the route."""

    @app.get("/compare")
    def compare(request: Request) -> Response:
        other = request.query_params.get("other", "").strip()
        if not other or comes_from_elsewhere(request):
            # Another web site may not make this server read a folder: the button has to be pressed.
            return viewer.page(
                "compare.html", title="Compare", active="compare", other=other, pairs=None
            )
        data, found = viewer.others.compared(viewer.data, other)
        data.refresh()
        return _page(viewer, request, other, found)


def _page(viewer: Viewer, request: Request, other: str, found: Comparison) -> Response:
    query = request.query_params
    show = query.get("show", "differing" if found.totals.differing else "all")
    if show not in SHOWS:
        raise UserError(f"expected show to be one of {', '.join(SHOWS)}, found {show[:60]!r}")
    one = query.get("image")
    if one is not None:
        here, there = viewer.data.index.find(one), found.there.find(one)
        if here is None or there is None:
            raise HTTPException(404, f"not both data sets have an image called {one[:300]!r}")
        rows, total, page = [(here, there)], 1, 1
    else:
        total = found.count(show)
        page = min(whole_number(query, "page", 1, 2**31) or 1, max(1, -(-total // PER_PAGE)))
        rows = found.pairs(show, PER_PAGE, (page - 1) * PER_PAGE)
    return viewer.page(
        "compare.html",
        title="Compare",
        active="compare",
        other=other,
        totals=found.totals,
        shows=[(name, found.count(name)) for name in SHOWS],
        show=show,
        one=one,
        pairs=_pairs(viewer, other, found, rows, large=one is not None),
        total=total,
        offset=(page - 1) * PER_PAGE,
        page_number=page,
        num_pages=max(1, -(-total // PER_PAGE)),
        same_iou=SAME_IOU,
        other_stats=found.there.stats,
        stats=viewer.data.index.stats,
        address=lambda **values: "/compare?" + urlencode({"other": other, "show": show, **values}),
    )


def _pairs(
    viewer: Viewer, other: str, found: Comparison, rows: list[tuple[Row, Row]], *, large: bool
) -> list[dict[str, Any]]:
    here = viewer.data.index.regions([row["position"] for row, _ in rows])
    there = found.there.regions([row["position"] for _, row in rows])
    lonely = found.lonely([row["position"] for row, _ in rows])
    kind, query = ("masks", {}) if large else ("thumb", {"boxes": "no"})
    pairs = []
    for one, two in rows:
        only = lonely.get(one["position"], (set(), set()))
        pairs.append(
            {
                "image_id": one["image_id"],
                "caption": one["caption"] or two["caption"],
                "sides": [
                    {
                        **side,
                        "regions": regions,
                        "only": marked,
                        "sketch": sketch(side["width"], side["height"], regions, marked),
                        "picture": of_image(side["image_id"], kind, urlencode({**query, **whose})),
                    }
                    for side, regions, marked, whose in (
                        (one, here[one["position"]], only[0], {}),
                        (two, there[two["position"]], only[1], {"other": other}),
                    )
                ],
            }
        )
    return pairs
