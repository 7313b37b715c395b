"""The pages of figures: tags and what they come with, statistics, failures by cause."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from pad_pipeline.dataset.stats import AREA_SHARE_EDGES, MANY_REGIONS, Histogram, Stats
from pad_pipeline.errors import UserError
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.filters import Filters, whole_number
from pad_pipeline.view.pages import bars

if TYPE_CHECKING:
    from pad_pipeline.view.viewer import Viewer

TAGS_PER_PAGE = 100
TAG_SORTS = ("regions", "images", "given", "unboxed", "score", "tag")
_COMPANIONS_IN_TABLE = 3
_EXAMPLES_OF_TAG = 12
_EXAMPLES_OF_FAILURE = 5


def add(app: FastAPI, viewer: Viewer) -> None:
    """Registers the routes."""

    @app.get("/tags")
    def tags(request: Request) -> Response:
        name = request.query_params.get("name")
        return _tags(viewer, request) if name is None else _tag(viewer, name)

    @app.get("/stats")
    def stats() -> Response:
        return _stats(viewer)

    @app.get("/stats.png")
    def stats_png() -> Response:
        from pad_pipeline.dataset.stats_plot import draw_page  # matplotlib takes a second

        return Response(draw_page(viewer.data.index.stats), media_type="image/png")

    @app.get("/failures")
    def failures() -> Response:
        return viewer.page(
            "failures.html",
            title="Failures",
            active="failures",
            causes=viewer.data.index.failures(_EXAMPLES_OF_FAILURE),
            retry_command=viewer.retry_command,
            finished=viewer.data.contents.state == "finished",
            filters=Filters(),
        )


def _tags(viewer: Viewer, request: Request) -> Response:
    index, query = viewer.data.index, request.query_params
    words = query.get("q", "").strip()
    sort = query.get("sort", "regions")
    if sort not in TAG_SORTS:
        raise UserError(f"expected sort to be one of {', '.join(TAG_SORTS)}, found {sort[:60]!r}")
    reverse = query.get("reverse", "") == "1"
    page = whole_number(query, "page", 1, 10**6) or 1
    rows, total = index.tags(
        words, sort, reverse=reverse, limit=TAGS_PER_PAGE, offset=(page - 1) * TAGS_PER_PAGE
    )
    cooccurring_tags = index.cooccurring_tags([row["tag_id"] for row in rows])
    return viewer.page(
        "tags.html",
        title="Tags",
        active="tags",
        rows=rows,
        cooccurring_tags={
            key: found[:_COMPANIONS_IN_TABLE] for key, found in cooccurring_tags.items()
        },
        words=words,
        sort=sort,
        reverse=reverse,
        page_number=page,
        num_pages=max(1, -(-total // TAGS_PER_PAGE)),
        total=total,
        offset=(page - 1) * TAGS_PER_PAGE,
        largest=max((row["num_regions"] for row in rows), default=1),
    )


def _tag(viewer: Viewer, name: str) -> Response:
    index = viewer.data.index
    row = index.tag(name)
    if row is None:
        raise HTTPException(404, f"the data set has no tag called {name[:200]!r}")
    [cooccurring_tags] = index.cooccurring_tags([row["tag_id"]]).values()
    filters = Filters(tag=(name,), sort="score")
    images = index.images(filters, _EXAMPLES_OF_TAG, 0)
    return viewer.page(
        "tag.html",
        title=name,
        active="tags",
        row=row,
        cooccurring_tags=cooccurring_tags,
        images=[
            {**image, "href": of_image(image["image_id"], query=filters.query())}
            for image in images
        ],
        filters=Filters(tag=(name,)),
        unboxed=Filters(tag=(name,), boxed="no"),
        both=lambda other: Filters(tag=(name, other)).address("/"),
    )


def _stats(viewer: Viewer) -> Response:
    stats: Stats = viewer.data.index.stats
    last = max((n for n, count in enumerate(stats.regions_per_image) if count), default=0)
    names = [str(number) for number in range(MANY_REGIONS)] + [f"{MANY_REGIONS}+"]
    return viewer.page(
        "stats.html",
        title="Statistics",
        active="stats",
        stats=stats,
        without=stats.num_tags_without_region / max(stats.num_tags_given, 1),
        charts=[
            (
                "Regions per image",
                "images",
                bars(names[: last + 1], list(stats.regions_per_image[: last + 1])),
            ),
            (
                "Mask area as a share of the image",
                "regions",
                bars(
                    [f"{100 * low:g}–{100 * high:g} %" for low, high in pairwise(AREA_SHARE_EDGES)],
                    list(stats.area_share.counts),
                ),
            ),
            ("Detector's score", "regions", _spread(stats.score)),
            ("Predicted IoU of the mask", "regions", _spread(stats.predicted_iou)),
        ],
        tags=bars(*map(list, zip(*stats.top_tags[:24], strict=True))) if stats.top_tags else [],
        unboxed=bars(*map(list, zip(*stats.top_tags_without_region[:24], strict=True)))
        if stats.top_tags_without_region
        else [],
        with_tag=lambda tag: Filters(tag=(tag,)).address("/"),
        without_box=lambda tag: Filters(tag=(tag,), boxed="no").address("/"),
    )


def _spread(histogram: Histogram) -> list[dict]:
    """Bins of a tenth, which a page has room for."""
    counts = [sum(histogram.counts[at : at + 2]) for at in range(0, len(histogram.counts), 2)]
    edges = histogram.edges[::2]
    return bars([f"{low:.1f}–{high:.1f}" for low, high in pairwise(edges)], counts)
