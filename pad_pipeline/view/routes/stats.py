"""The statistics of the data set, as a page and as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pad_pipeline.dataset.stats import AREA_FRACTION_EDGES, MANY_REGIONS, Histogram
from pad_pipeline.view.dependencies import MarkedViewer
from pad_pipeline.view.filters import Filters, tag_address
from pad_pipeline.view.pages import bars

router = APIRouter()

_TOP_TAGS = 24


@router.get("/stats")
def stats(request: Request, viewer: MarkedViewer) -> Response:
    """Bar charts of regions, tags and scores."""
    stats = viewer.data.index.stats
    last = max((n for n, count in enumerate(stats.regions_per_image) if count), default=0)
    names = [str(number) for number in range(MANY_REGIONS)] + [f"{MANY_REGIONS}+"]
    hrefs = [
        Filters(min_regions=n, max_regions=n if n < MANY_REGIONS else None).address()
        for n in range(last + 1)
    ]
    shares = [f"{100 * low:g}–{100 * high:g} %" for low, high in pairwise(AREA_FRACTION_EDGES)]
    return viewer.page(
        request,
        "stats.html",
        title="Statistics",
        active="stats",
        stats=stats,
        undetected=stats.num_tags_without_region / max(stats.num_tags_given, 1),
        charts=[
            (
                "Regions per image",
                "images",
                bars(names[: last + 1], stats.regions_per_image[: last + 1], hrefs),
            ),
            (
                "Mask area as a share of the image",
                "regions",
                bars(shares, stats.area_share.counts, _addresses("share", AREA_FRACTION_EDGES)),
            ),
            ("Detector's score", "regions", _tenths(stats.score, "score")),
            ("Predicted IoU of the mask", "regions", _tenths(stats.predicted_iou, "iou")),
        ],
        tags=_tag_bars(stats.top_tags),
        undetected_tags=_tag_bars(stats.top_tags_without_region, boxed="no"),
    )


@router.get("/stats.png")
def stats_png(viewer: MarkedViewer) -> Response:
    """The same as one picture."""
    from pad_pipeline.dataset.stats_plot import draw_page  # matplotlib takes a second

    return Response(draw_page(viewer.data.index.stats), media_type="image/png")


def _tag_bars(
    tags: Sequence[tuple[str, int]], boxed: Literal["", "no"] = ""
) -> list[dict[str, Any]]:
    shown = tags[:_TOP_TAGS]
    hrefs = [tag_address(tag, boxed=boxed) for tag, _ in shown]
    return bars([tag for tag, _ in shown], [count for _, count in shown], hrefs)


def _tenths(histogram: Histogram, measure: str) -> list[dict[str, Any]]:
    """Bins of a tenth, which a page has room for."""
    counts = [sum(histogram.counts[at : at + 2]) for at in range(0, len(histogram.counts), 2)]
    edges = histogram.edges[::2]
    names = [f"{low:.1f}–{high:.1f}" for low, high in pairwise(edges)]
    return bars(names, counts, _addresses(measure, edges))


def _addresses(measure: str, edges: Sequence[float]) -> list[str]:
    """Of the images with a region in each bin of a measure."""
    return [
        Filters().address(
            **{f"min_{measure}": low or None, f"max_{measure}": high if high < 1 else None}
        )
        for low, high in pairwise(edges)
    ]
