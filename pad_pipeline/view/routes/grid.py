"""The grid of images that pass the filters."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pad_pipeline.drawing.colours import distinct_colours
from pad_pipeline.review.events import VERDICTS
from pad_pipeline.review.marks import Marks
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.dependencies import CurrentViewer, QueryFilters
from pad_pipeline.view.filters import MARKED, SORTS, STATUSES, Filters
from pad_pipeline.view.histograms import image_chart, region_charts, tag_counts
from pad_pipeline.view.marked import image_state, regions_of, renamed_rows
from pad_pipeline.view.pages import TEMPLATES, bars
from pad_pipeline.view.parameters import PageNumber
from pad_pipeline.view.queries import Row

router = APIRouter()

PER_PAGE = 48
SUGGESTED_TAGS = 200
_TAGS_ON_CARD = 3


@router.get("/")
def grid(
    request: Request, viewer: CurrentViewer, filters: QueryFilters, page: PageNumber = 1
) -> Response:
    """A page of thumbnails."""
    index = viewer.data.index
    total = index.count(filters)
    num_pages = max(1, -(-total // PER_PAGE))
    page = min(max(page, 1), num_pages)
    offset = (page - 1) * PER_PAGE
    rows = index.images(filters, PER_PAGE, offset)
    regions = index.regions([row["position"] for row in rows])
    marks, _ = viewer.read_review()
    cards = [
        {
            **row,
            "href": of_image(row["image_id"], query=filters.query()),
            "tags": _main_tags(named),
            "marks": _card_marks(marks, row["image_id"], own),
            "colours": distinct_colours(region["tag"] for region in named),
        }
        for row in rows
        for own in [regions[row["position"]]]
        for named in [renamed_rows(own, marks, row["image_id"])]
    ]
    return viewer.page(
        request,
        "grid.html",
        title="Images",
        active="images",
        cards=cards,
        filters=filters,
        chips=chips(filters),
        total=total,
        offset=offset,
        page_number=page,
        num_pages=num_pages,
        address=lambda number: filters.address("/", page=number if number > 1 else None),
        tags=index.frequent_tags(SUGGESTED_TAGS),
        histograms=filters.address("/histograms"),
        statuses=STATUSES,
        sorts=SORTS,
        marked=MARKED,
        views=sorted(marks.views.items()),
        query=filters.query(),
        commands=viewer.export_commands(request, filters),
    )


@router.get("/histograms")
def histograms(request: Request, viewer: CurrentViewer, filters: QueryFilters) -> Response:
    """Histograms of what the filters leave: a part of the grid, which loads it when opened."""
    index = viewer.data.index
    return TEMPLATES.TemplateResponse(
        request,
        "histograms.html",
        {
            "filters": filters,
            "charts": [*region_charts(index, filters), image_chart(index, filters)],
            "tags": bars(*map(list, zip(*tag_counts(index, filters), strict=True)))
            if index.stats.num_regions
            else [],
        },
    )


def _card_marks(marks: Marks, image_id: str, rows: list[Row]) -> list[tuple[str, str]]:
    """(verdict, what of the image has it): "the image", or a number of regions."""
    if image_id not in marks.images:
        return []
    state = image_state(marks, image_id, regions_of(rows))
    found = []
    for verdict in VERDICTS:
        number = sum((mark["verdict"] or {}).get("value") == verdict for mark in state["regions"])
        if (state["verdict"] or {}).get("value") == verdict:
            found.append((verdict, "the image"))
        if number:
            found.append((verdict, str(number)))
    return found


def _main_tags(regions: list[Row]) -> list[tuple[str, int]]:
    """The tags of an image's regions by their best score, with the number of regions."""
    scores: dict[str, list[float]] = {}
    for region in regions:
        scores.setdefault(region["tag"], []).append(region["score"])
    ordered = sorted(scores.items(), key=lambda item: -max(item[1]))
    return [(tag, len(of_tag)) for tag, of_tag in ordered[:_TAGS_ON_CARD]]


def chips(filters: Filters) -> list[tuple[str, str]]:
    """What is filtered by, in words, each with the address without it."""
    found: list[tuple[str, str]] = []
    for tag in filters.tag:
        rest = tuple(other for other in filters.tag if other != tag)
        changes: dict[str, Any] = {"tag": rest} if rest else {"tag": (), "boxed": None}
        word = "tagged but not detected: " if filters.boxed == "no" else "tag: "
        found.append((word + tag, filters.address("/", **changes)))
    for name, text in (
        ("status", "status: {}"),
        ("cause", "cause: {}"),
        ("q", "caption: {}"),
        ("image", "image id: {}"),
        ("lasso", "a part of the map"),
        ("review", "marks: {}"),
        ("min_score", "score from {:g}"),
        ("max_score", "score below {:g}"),
        ("min_iou", "predicted IoU from {:g}"),
        ("max_iou", "predicted IoU below {:g}"),
        ("min_area", "area from {:,} px"),
        ("min_share", "area from {:.4g} of the image"),
        ("max_share", "area below {:.4g} of the image"),
        ("min_regions", "regions from {}"),
        ("max_regions", "regions up to {}"),
    ):
        value = getattr(filters, name)
        if value not in (None, ""):
            found.append((text.format(value), filters.address("/", **{name: None})))
    return found
