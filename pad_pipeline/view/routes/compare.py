"""The page that puts two data sets beside each other."""

from __future__ import annotations

from typing import Annotated, Any, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.compare import SAME_IOU, Comparison, Show
from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.overlay import sketch
from pad_pipeline.view.parameters import OptionalInForm, PageNumber, Parameters
from pad_pipeline.view.queries import Row
from pad_pipeline.view.safety import comes_from_elsewhere
from pad_pipeline.view.viewer import Viewer

router = APIRouter()

PER_PAGE = 12
SHOWS: tuple[Show, ...] = get_args(Show)


class CompareQuery(Parameters, frozen=True):
    """The folder or URL of the `other` data set, and which images of both: one, or a page."""

    other: str = ""
    show: Annotated[Show | None, OptionalInForm] = None
    image: str | None = None
    page: PageNumber = 1


@router.get("/compare")
def compare(
    request: Request, viewer: CurrentViewer, query: Annotated[CompareQuery, Query()]
) -> Response:
    """Images of both, those that differ first; without an `other`, the form to name one."""
    other = query.other.strip()
    if not other or comes_from_elsewhere(request):
        # Another web site may not make this server read a folder: the button has to be pressed.
        return viewer.page(
            request, "compare.html", title="Compare", active="compare", other=other, pairs=None
        )
    data, comparison = viewer.comparisons.compare(viewer.data, other)
    data.refresh()
    return _page(request, viewer, query, other, comparison)


def _page(
    request: Request, viewer: Viewer, query: CompareQuery, other: str, comparison: Comparison
) -> Response:
    show: Show = query.show or ("differing" if comparison.totals.differing else "all")
    one = query.image
    if one is not None:
        here, there = viewer.data.index.find(one), comparison.there.find(one)
        if here is None or there is None:
            raise HTTPException(404, f"not both data sets have an image called {one[:300]!r}")
        rows, total, page = [(here, there)], 1, 1
    else:
        total = comparison.count(show)
        page = min(max(query.page, 1), max(1, -(-total // PER_PAGE)))
        rows = comparison.pairs(show, PER_PAGE, (page - 1) * PER_PAGE)
    return viewer.page(
        request,
        "compare.html",
        title="Compare",
        active="compare",
        other=other,
        totals=comparison.totals,
        shows=[(name, comparison.count(name)) for name in SHOWS],
        show=show,
        one=one,
        pairs=_pairs(viewer, other, comparison, rows, large=one is not None),
        total=total,
        offset=(page - 1) * PER_PAGE,
        page_number=page,
        num_pages=max(1, -(-total // PER_PAGE)),
        same_iou=SAME_IOU,
        other_stats=comparison.there.stats,
        stats=viewer.data.index.stats,
        address=lambda **values: "/compare?" + urlencode({"other": other, "show": show, **values}),
    )


def _pairs(
    viewer: Viewer, other: str, comparison: Comparison, rows: list[tuple[Row, Row]], *, large: bool
) -> list[dict[str, Any]]:
    here = viewer.data.index.regions([row["position"] for row, _ in rows])
    there = comparison.there.regions([row["position"] for _, row in rows])
    unmatched = comparison.unmatched([row["position"] for row, _ in rows])
    kind, query = ("masks", {}) if large else ("thumb", {"boxes": "no"})
    pairs = []
    for one, two in rows:
        only = unmatched.get(one["position"], (set(), set()))
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
