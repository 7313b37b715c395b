"""The grid of images, the page of one image, and both as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from pad_pipeline.records import PadRecord, to_pad_json
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.filters import SORTS, STATUSES, Filters, read_filters, whole_number
from pad_pipeline.view.overlay import overlay
from pad_pipeline.view.queries import Row
from pad_pipeline.view.source import DataSet

if TYPE_CHECKING:
    from pad_pipeline.view.viewer import Viewer

PER_PAGE = 48
MOST_PER_REQUEST = 1000
_FURTHEST = 2**31 - 1
_SUGGESTED_TAGS = 200
_TAGS_ON_CARD = 3


def add(app: FastAPI, viewer: Viewer) -> None:
    """Registers the routes."""

    @app.get("/")
    def grid(request: Request) -> Response:
        return _grid(viewer, request)

    @app.get("/image/{image_id:id}")
    def image(request: Request, image_id: str) -> Response:
        return _image(viewer, request, image_id or request.query_params.get("id", ""))

    @app.get("/api/records")
    def records(request: Request) -> Response:
        return _records(viewer, request)

    @app.get("/api/record/{image_id:id}")
    def record(request: Request, image_id: str) -> Response:
        row = find(viewer.data, image_id or request.query_params.get("id", ""))
        return JSONResponse(to_pad_json(viewer.data.record_of(row)))


def find(data: DataSet, image_id: str) -> Row:
    """The row of an image; raises the error of a page that is not there."""
    row = data.index.find(image_id)
    if row is None:
        raise HTTPException(404, f"the data set has no image called {image_id[:300]!r}")
    return row


def _grid(viewer: Viewer, request: Request) -> Response:
    index = viewer.data.index
    filters = read_filters(request.query_params.multi_items())
    page = whole_number(request.query_params, "page", 1, _FURTHEST) or 1
    total = index.count(filters)
    num_pages = max(1, -(-total // PER_PAGE))
    page = min(page, num_pages)
    offset = (page - 1) * PER_PAGE
    rows = index.images(filters, PER_PAGE, offset)
    regions = index.regions([row["position"] for row in rows])
    cards = [
        {
            **row,
            "href": of_image(row["image_id"], query=filters.query()),
            "tags": _main_tags(regions[row["position"]]),
        }
        for row in rows
    ]
    return viewer.page(
        "grid.html",
        title="Images",
        active="images",
        cards=cards,
        filters=filters,
        chips=_chips(filters),
        total=total,
        offset=offset,
        page_number=page,
        num_pages=num_pages,
        address=lambda number: filters.address("/", page=number if number > 1 else None),
        tags=index.frequent_tags(_SUGGESTED_TAGS),
        statuses=STATUSES,
        sorts=SORTS,
    )


def _main_tags(regions: list[Row]) -> list[tuple[str, int]]:
    """The tags of an image by their best score, with how often they are boxed."""
    best: dict[str, list[float]] = {}
    for region in regions:
        best.setdefault(region["tag"], []).append(region["score"])
    ordered = sorted(best.items(), key=lambda item: -max(item[1]))
    return [(tag, len(scores)) for tag, scores in ordered[:_TAGS_ON_CARD]]


def _chips(filters: Filters) -> list[tuple[str, str]]:
    """What is filtered by, in words, each with the address without it."""
    found: list[tuple[str, str]] = []
    for tag in filters.tag:
        rest = tuple(other for other in filters.tag if other != tag)
        changes: dict[str, Any] = {"tag": rest} if rest else {"tag": (), "boxed": None}
        word = "given but not boxed: " if filters.boxed == "no" else "tag: "
        found.append((word + tag, filters.address("/", **changes)))
    for name, text in (
        ("status", "status: {}"),
        ("cause", "cause: {}"),
        ("q", "caption: {}"),
        ("image", "image id: {}"),
        ("min_score", "score from {:g}"),
        ("min_iou", "predicted IoU from {:g}"),
        ("min_area", "area from {:,} px"),
        ("min_regions", "regions from {}"),
        ("max_regions", "regions up to {}"),
    ):
        value = getattr(filters, name)
        if value not in (None, ""):
            found.append((text.format(value), filters.address("/", **{name: None})))
    return found


def _image(viewer: Viewer, request: Request, image_id: str) -> Response:
    index = viewer.data.index
    row = find(viewer.data, image_id)
    filters = read_filters(request.query_params.multi_items())
    record = viewer.data.record_of(row)
    around = index.neighbours(filters, row["position"])
    query = filters.query()
    boxed = {region.tag for region in record.labels}
    selected = request.query_params.get("region", "")
    return viewer.page(
        "image.html",
        title=record.image_id,
        active="images",
        record=record,
        missing=viewer.pictures.missing(record) if record.status != "failed" else None,
        overlay=overlay(record),
        selected=int(selected) if selected.isdecimal() and len(selected) < 7 else -1,
        legend=_legend(record),
        unboxed=[tag for tag in record.tags if tag.tag not in boxed],
        boxed=[tag for tag in record.tags if tag.tag in boxed],
        around=around,
        previous=None if around.previous is None else of_image(around.previous, query=query),
        following=None if around.next is None else of_image(around.next, query=query),
        back=filters.address("/", page=(around.number - 1) // PER_PAGE + 1 or None),
        filters=filters,
        chips=_chips(filters),
        with_region=lambda n: of_image(record.image_id, query=filters.query(region=n)),
        shard=index.shard_names[row["shard"]],
        shard_row=row["shard_row"],
        provenance=_provenance(viewer.data.contents.manifest),
        pad_json=json.dumps(to_pad_json(record), indent=1, ensure_ascii=False),
        retry_command=viewer.retry_command,
    )


def _legend(record: PadRecord) -> list[tuple[str, list[int]]]:
    """The tags that are boxed, in the record's order, with the numbers of their regions."""
    found: dict[str, list[int]] = {}
    for number, region in enumerate(record.labels):
        found.setdefault(region.tag, []).append(number)
    return list(found.items())


def _provenance(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What of the manifest says how the record was made, in words."""
    models, identity, versions = (
        value if isinstance(value := manifest.get(name), dict) else {}
        for name in ("models", "identity", "versions")
    )
    found: list[tuple[str, str]] = []
    for stage in dict.fromkeys([*models, *identity]):
        told = {**_dict(identity.get(stage)), **_dict(models.get(stage))}
        if told:
            words = [f"{name.replace('_', ' ')} {_short(value)}" for name, value in told.items()]
            found.append((str(stage), ", ".join(words)))
    if isinstance(manifest.get("source"), str):
        found.append(("source", manifest["source"]))
    if versions:
        found.append(("versions", ", ".join(f"{k} {_short(v)}" for k, v in versions.items())))
    return found


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    text = str(value)
    return text[:19] + "…" if text.startswith("sha256:") else text[:80]


def _records(viewer: Viewer, request: Request) -> Response:
    viewer.data.refresh()
    index = viewer.data.index
    filters = read_filters(request.query_params.multi_items())
    limit = whole_number(request.query_params, "limit", 100, MOST_PER_REQUEST)
    offset = whole_number(request.query_params, "offset", 0, _FURTHEST)
    rows = index.images(filters, limit, offset)
    positions = [row["position"] for row in rows]
    regions, tags = index.regions(positions), index.tags_of(positions)
    return JSONResponse(
        {
            "total": index.count(filters),
            "limit": limit,
            "offset": offset,
            "state": viewer.data.contents.state,
            "records": [
                _plain(row, regions[row["position"]], tags[row["position"]]) for row in rows
            ],
        }
    )


def _plain(row: Row, regions: list[Row], tags: list[Row]) -> dict[str, Any]:
    """A record without its masks, as JSON can hold it."""
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
    return round(value, 6) if value - value == 0 else None
