"""The page that puts two data sets beside each other."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.compare import SAME_IOU, By, Comparison, Rule, Show
from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.overlay import sketch
from pad_pipeline.view.parameters import OptionalInForm, PageNumber, Parameters
from pad_pipeline.view.queries import Row
from pad_pipeline.view.safety import comes_from_elsewhere
from pad_pipeline.view.viewer import Viewer

router = APIRouter()

PER_PAGE = 12


class CompareQuery(Parameters, frozen=True):
    """The folder or URL of the `other` data set or COCO file, when regions are the same, and which
    images of both: one, or a page."""

    other: str = ""
    by: Annotated[By, OptionalInForm] = "boxes"
    iou: Annotated[float, Query(gt=0, le=1), OptionalInForm] = SAME_IOU
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
            request,
            "compare.html",
            title="Compare",
            active="compare",
            other=other,
            rule=Rule(query.by, query.iou),
            pairs=None,
        )
    data, comparison = viewer.comparisons.compare(viewer.data, other)
    data.refresh()
    return _page(request, viewer, query, other, comparison)


def _page(
    request: Request, viewer: Viewer, query: CompareQuery, other: str, comparison: Comparison
) -> Response:
    rule = Rule(query.by, query.iou)
    totals = comparison.totals(rule)
    show: Show = query.show or ("differing" if totals.differing else "all")
    numbers = {
        "differing": totals.differing,
        "all": totals.shared,
        "same": totals.shared - totals.differing,
    }
    one = query.image
    if one is not None:
        if (pair := comparison.pair(one)) is None:
            raise HTTPException(404, f"not both data sets have an image called {one[:300]!r}")
        rows, total, page = [pair], 1, 1
    else:
        total = numbers[show]
        page = min(max(query.page, 1), max(1, -(-total // PER_PAGE)))
        rows = comparison.pairs(rule, show, PER_PAGE, (page - 1) * PER_PAGE)
    kept = {"other": other, "by": rule.by, "iou": f"{rule.iou:g}", "show": show}
    return viewer.page(
        request,
        "compare.html",
        title="Compare",
        active="compare",
        other=other,
        rule=rule,
        totals=totals,
        num_unreadable=comparison.num_unreadable if rule.by == "masks" else 0,
        shows=list(numbers.items()),
        show=show,
        one=one,
        pairs=_pairs(viewer, other, comparison, rule, rows, large=one is not None),
        total=total,
        offset=(page - 1) * PER_PAGE,
        page_number=page,
        num_pages=max(1, -(-total // PER_PAGE)),
        other_stats=comparison.there.stats,
        stats=viewer.data.index.stats,
        address=lambda **values: "/compare?" + urlencode(kept | values),
    )


def _pairs(
    viewer: Viewer,
    other: str,
    comparison: Comparison,
    rule: Rule,
    rows: list[tuple[Row, Row]],
    *,
    large: bool,
) -> list[dict[str, Any]]:
    here = viewer.data.index.regions([row["position"] for row, _ in rows])
    there = comparison.there.regions([row["position"] for _, row in rows])
    unmatched = comparison.unmatched(rule, [row["position"] for row, _ in rows])
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
