"""The page of two evaluations: how their metrics differ, and on which questions which is better."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.evaluations import EvaluationComparison, MetricDifference
from pad_pipeline.view.parameters import Count, OptionalInForm, PageNumber, Parameters

router = APIRouter()

PER_PAGE = 20


class EvaluationsQuery(Parameters, frozen=True):
    """Which comparison is shown, and on which questions: those won or those lost."""

    number: Count = 0
    show: Annotated[Literal["wins", "losses"], OptionalInForm] = "losses"
    page: PageNumber = 1


@router.get("/evaluations")
def evaluations(
    request: Request, viewer: CurrentViewer, query: Annotated[EvaluationsQuery, Query()]
) -> Response:
    """One comparison; the questions with the largest difference come first."""
    found, number = viewer.evaluations, query.number or 0
    if number >= len(found):
        raise HTTPException(
            404,
            "there is no such comparison: start `pad-pipeline view` with --run and a folder of "
            "`evaluate … --against`",
        )
    shown = found[number]
    verdicts = shown.wins if query.show == "wins" else shown.losses
    num_pages = max(1, -(-len(verdicts) // PER_PAGE))
    page = min(max(query.page, 1), num_pages)
    offset = (page - 1) * PER_PAGE
    rows = verdicts[offset : offset + PER_PAGE]
    names = {row.image: _names(row.image) for row in rows if row.image}
    there = viewer.data.index.of_ids([name for each in names.values() for name in each])
    known = {row["image_id"] for row in there}
    values = {"number": number, "show": query.show}
    return viewer.page(
        request,
        "evaluations.html",
        title="Evaluations",
        active="evaluations",
        comparisons=found,
        shown=shown,
        number=number,
        show=query.show,
        metrics=[(metric, _interval(metric, shown)) for metric in shown.metrics],
        rows=rows,
        images={
            image: next(name for name in each if name in known)
            for image, each in names.items()
            if known.intersection(each)
        },
        total=len(verdicts),
        offset=offset,
        page_number=page,
        num_pages=num_pages,
        address=lambda **changes: "/evaluations?" + urlencode(values | changes),
    )


def _names(image: str) -> tuple[str, ...]:
    """What the data set may call an image of a benchmark: by its path, or within some folder."""
    parts = image.split("/")
    return tuple("/".join(parts[start:]) for start in range(len(parts)))


def _interval(metric: MetricDifference, shown: EvaluationComparison) -> dict[str, Any]:
    """The difference and its interval on a scale of −100 to 100, the metric's own largest value."""
    low, high = metric.interval or (metric.difference, metric.difference)
    largest = max(abs(low), abs(high), abs(metric.difference), 1e-12)
    return {
        "low": round(100 * low / largest, 1),
        "width": round(100 * (high - low) / largest, 1),
        "at": round(100 * metric.difference / largest, 1),
        "holds_zero": not (metric.interval is not None and (low > 0 or high < 0)),
    }
