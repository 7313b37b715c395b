"""Pages made from embeddings: what is like an image or a region, near-duplicates, and the map."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from pad_pipeline.drawing.colours import colour_number
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.dependencies import CurrentViewer, ImageId, QueryFilters, find_image
from pad_pipeline.view.lasso import CELLS
from pad_pipeline.view.marked import renamed_rows
from pad_pipeline.view.parameters import Count, Fraction, PageNumber
from pad_pipeline.view.routes.grid import chips
from pad_pipeline.view.viewer import Viewer

router = APIRouter()

_SHOWN = 48
_GROUPS_PER_PAGE = 24
_SHOWN_OF_GROUP = 12
_REACH = 12
_GREY = 255
"""In place of a colour: an image without a region."""

Cell = Annotated[int, Query(ge=0, lt=CELLS)]


@router.get("/similar/{image_id:id}")
def similar(
    request: Request,
    viewer: CurrentViewer,
    image_id: ImageId,
    region: Annotated[Count, Query()] = None,
) -> Response:
    """What is most like an image, or like its region of that number."""
    row = find_image(viewer.data, image_id)
    found = viewer.look_alikes.get().nearest(row["position"], region, _SHOWN)
    cards = _cards(viewer, [row["position"], *(one.position for one in found)])
    for card, one in zip(cards[1:], found, strict=True):
        card["similarity"] = one.similarity
        if one.region is not None:
            card |= _crop(card, one.region)
    if region is not None:
        cards[0] |= _crop(cards[0], region)
    own, *others = cards
    return viewer.page(
        request,
        "similar.html",
        title=f"Like {image_id}",
        active="map",
        own=own,
        cards=others,
        of_region=region is not None,
        model=viewer.look_alikes.get().embeddings.model,
    )


@router.get("/duplicates")
def duplicates(
    request: Request,
    viewer: CurrentViewer,
    min_similarity: Annotated[Fraction, Query()] = None,
    page: PageNumber = 1,
) -> Response:
    """Groups of near-duplicates, the largest first."""
    look_alikes = viewer.look_alikes.get()
    lowest = look_alikes.embeddings.duplicates_from
    least = max(min_similarity or lowest, lowest)
    groups = look_alikes.groups(least)
    num_pages = max(1, -(-len(groups) // _GROUPS_PER_PAGE))
    page = min(max(page, 1), num_pages)
    shown = groups[(page - 1) * _GROUPS_PER_PAGE : page * _GROUPS_PER_PAGE]
    rows = [row for group in shown for row in group.rows[:_SHOWN_OF_GROUP]]
    cards = iter(_cards(viewer, rows))
    return viewer.page(
        request,
        "duplicates.html",
        title="Near-duplicates",
        active="map",
        groups=[
            {
                "similarity": group.similarity,
                "count": len(group.rows),
                "cards": [next(cards) for _ in group.rows[:_SHOWN_OF_GROUP]],
            }
            for group in shown
        ],
        num_groups=len(groups),
        num_images=sum(len(group.rows) for group in groups),
        least=least,
        lowest=lowest,
        page_number=page,
        num_pages=num_pages,
        address=lambda number: f"/duplicates?min_similarity={least:g}&page={number}",
    )


@router.get("/map")
def map_page(request: Request, viewer: CurrentViewer, filters: QueryFilters) -> Response:
    """The images on a plane, to select some by hand; without embeddings, how to make them."""
    if not viewer.look_alikes.are_there:
        command = shlex.join(["pad-pipeline", "embed", viewer.data.url])
        return viewer.page(request, "no_map.html", title="Map", active="map", command=command)
    look_alikes = viewer.look_alikes.get()
    index = viewer.data.index
    frequent = index.frequent_tags(index.stats.num_region_tags)[:_SHOWN_OF_GROUP]
    return viewer.page(
        request,
        "map.html",
        title="Map",
        active="map",
        kind=str(look_alikes.embeddings.manifest.get("map", "")).upper(),
        model=look_alikes.embeddings.model,
        chips=chips(filters.model_copy(update={"lasso": ""})),
        query=filters.query(lasso=""),
        lasso=filters.lasso,
        frequent=frequent,
    )


@router.get("/map/points")
def map_points(viewer: CurrentViewer, filters: QueryFilters) -> Response:
    """Of each image that passes: its cell, little-endian in 4 bytes; then, a byte each, colours."""
    viewer.look_alikes.get()
    index = viewer.data.index
    cells, main_tags = index.map_points(filters)
    by_tag = np.full(len(index.tag_names) + 1, _GREY, np.uint8)  # the last is that of no tag
    for tag_id, tag in index.tag_names.items():
        by_tag[tag_id] = colour_number(tag)
    return Response(
        cells.astype("<u4").tobytes() + by_tag[main_tags].tobytes(),
        media_type="application/octet-stream",
        headers={"Cache-Control": "private, max-age=60"},
    )


@router.get("/map/nearest")
def map_nearest(viewer: CurrentViewer, filters: QueryFilters, x: Cell, y: Cell) -> Response:
    """The image nearest to a place of the map, as JSON; null where none is near."""
    viewer.look_alikes.get()
    row = viewer.data.index.nearest_on_map(filters, x, y, _REACH)
    if row is None:
        return JSONResponse(None)
    image_id = row["image_id"]
    return JSONResponse(
        {"image_id": image_id, "href": of_image(image_id), "thumb": of_image(image_id, "thumb")}
    )


def _cards(viewer: Viewer, positions: list[int]) -> list[dict[str, Any]]:
    """What is shown of the images at these positions, which may hold one twice."""
    index = viewer.data.index
    distinct = list(dict.fromkeys(positions))
    rows = dict(zip(distinct, index.at(distinct), strict=True))
    regions = index.regions(distinct)
    marks, _ = viewer.read_review()
    return [
        {
            **rows[position],
            "href": of_image(rows[position]["image_id"]),
            "regions": renamed_rows(regions[position], marks, rows[position]["image_id"]),
        }
        for position in positions
    ]


def _crop(card: dict[str, Any], number: int) -> dict[str, Any]:
    """What makes a card that of one region: its tag, and the part of the picture around its box."""
    region = card["regions"][number]
    x0, y0, x1, y1 = (region[name] for name in ("x0", "y0", "x1", "y1"))
    margin = 0.08 * max(x1 - x0, y1 - y0, 1)
    box = (x0 - margin, y0 - margin, x1 - x0 + 2 * margin, y1 - y0 + 2 * margin)
    return {
        "href": of_image(card["image_id"], query=f"region={number}"),
        "region": region,
        "crop": [round(value, 1) for value in box],
    }
