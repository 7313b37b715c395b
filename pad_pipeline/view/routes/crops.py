"""The page of objects: regions cut out of their images, of one tag or of all."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.view.crops import CROP_SORTS, CropsQuery, list_crops
from pad_pipeline.view.dependencies import MarkedViewer

router = APIRouter()

PER_PAGE = 60
_SUGGESTED_TAGS = 200


@router.get("/crops")
def crops(
    request: Request, viewer: MarkedViewer, query: Annotated[CropsQuery, Query()]
) -> Response:
    """A page of regions."""
    index = viewer.data.index
    if query.tag and index.tag(query.tag) is None:
        raise HTTPException(404, f"the data set has no tag called {query.tag[:200]!r}")
    found, total, page = list_crops(index, query, PER_PAGE)
    return viewer.page(
        request,
        "crops.html",
        title=f"Objects: {query.tag}" if query.tag else "Objects",
        active="crops",
        query=query,
        crops=found,
        sorts=CROP_SORTS,
        tags=index.frequent_tags(_SUGGESTED_TAGS),
        total=total,
        offset=(page - 1) * PER_PAGE,
        page_number=page,
        num_pages=max(1, -(-total // PER_PAGE)),
        at_page=lambda number: query.address(page=number),
    )
