"""Records as JSON: one whole, or many without their masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from pad_pipeline.record_json import to_pad_json
from pad_pipeline.view.dependencies import CurrentViewer, ImageId, QueryFilters, find_image
from pad_pipeline.view.marked import renamed, renamed_rows
from pad_pipeline.view.parameters import LARGEST_PAGE, OptionalInForm
from pad_pipeline.view.queries import Row

router = APIRouter(prefix="/api")

MAX_RECORDS = 1000
"""In one answer."""


@router.get("/record/{image_id:id}")
def record(viewer: CurrentViewer, image_id: ImageId) -> Response:
    """One record as PAD JSON, with masks and with the tags that its regions were given."""
    row = find_image(viewer.data, image_id)
    marks, _ = viewer.read_review()
    return JSONResponse(to_pad_json(renamed(viewer.data.record_of(row), marks)))


@router.get("/records")
def records(
    viewer: CurrentViewer,
    filters: QueryFilters,
    limit: Annotated[int, Query(ge=0, le=MAX_RECORDS), OptionalInForm] = 100,
    offset: Annotated[int, Query(ge=0, le=LARGEST_PAGE), OptionalInForm] = 0,
) -> Response:
    """The records that pass the filters, without masks, a page at a time."""
    viewer.data.refresh()
    index = viewer.data.index
    rows = index.images(filters, limit, offset)
    positions = [row["position"] for row in rows]
    regions, tags = index.regions(positions), index.tags_of(positions)
    marks, _ = viewer.read_review()
    return JSONResponse(
        {
            "total": index.count(filters),
            "limit": limit,
            "offset": offset,
            "state": viewer.data.contents.state,
            "records": [
                _without_masks(
                    row,
                    renamed_rows(regions[row["position"]], marks, row["image_id"]),
                    tags[row["position"]],
                )
                for row in rows
            ],
        }
    )


@router.get("/ids")
def ids(viewer: CurrentViewer, filters: QueryFilters) -> Response:
    """The ids of all images that pass the filters, one a line, as `export` takes them."""
    viewer.data.refresh()

    def lines() -> Iterator[str]:
        for image_id in viewer.data.index.iter_ids(filters):
            yield f"{image_id}\n"

    return StreamingResponse(lines(), media_type="text/plain")


def _without_masks(row: Row, regions: list[Row], tags: list[Row]) -> dict[str, Any]:
    failed = row["status"] == "failed"
    return {
        "image_id": row["image_id"],
        "size": [row["width"], row["height"]],
        "caption": row["caption"],
        "status": row["status"],
        "error": {name: row[name] for name in ("stage", "type", "message")} if failed else None,
        "tags": [{"tag": tag["tag"], "score": _finite(tag["score"])} for tag in tags],
        "labels": [
            {
                "tag": region["tag"],
                "score": _finite(region["score"]),
                "bbox": [_finite(region[name]) for name in ("x0", "y0", "x1", "y1")],
                "area": region["area"],
                "predicted_iou": _finite(region["predicted_iou"]),
            }
            for region in regions
        ],
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return round(value, 6) if math.isfinite(value) else None
