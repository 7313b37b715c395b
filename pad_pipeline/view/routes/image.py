"""The page of one image: its picture with regions over it, its record, and how it was made."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from pad_pipeline.record_json import to_pad_json
from pad_pipeline.records import PadRecord
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.dependencies import CurrentViewer, ImageId, QueryFilters, find_image
from pad_pipeline.view.marked import image_state, renamed
from pad_pipeline.view.overlay import overlay
from pad_pipeline.view.parameters import Count
from pad_pipeline.view.routes.grid import PER_PAGE, SUGGESTED_TAGS, chips

router = APIRouter()


@router.get("/image/{image_id:id}")
def image(
    request: Request,
    viewer: CurrentViewer,
    image_id: ImageId,
    filters: QueryFilters,
    region: Annotated[Count, Query()] = None,
) -> Response:
    """The page of an image; `region` is the number of the one that is selected."""
    index = viewer.data.index
    row = find_image(viewer.data, image_id)
    marks, _ = viewer.read_review()
    whole = viewer.data.record_of(row)
    record = renamed(whole, marks)
    around = index.neighbours(filters, row["position"])
    query = filters.query()
    detected = {label.tag for label in record.labels}
    return viewer.page(
        request,
        "image.html",
        title=record.image_id,
        active="images",
        record=record,
        missing=viewer.pictures.missing(record) if record.status != "failed" else None,
        overlay=overlay(record),
        selected=-1 if region is None else region,
        legend=_legend(record),
        detected_tags=[tag for tag in record.tags if tag.tag in detected],
        undetected_tags=[tag for tag in record.tags if tag.tag not in detected],
        around=around,
        previous=None if around.previous is None else of_image(around.previous, query=query),
        following=None if around.next is None else of_image(around.next, query=query),
        back=filters.address("/", page=(around.number - 1) // PER_PAGE + 1 or None),
        chips=chips(filters),
        with_region=lambda n: of_image(record.image_id, query=filters.query(region=n)),
        shard=index.shard_names[row["shard"]],
        shard_row=row["shard_row"],
        provenance=_provenance(viewer.data.contents.manifest),
        marks=image_state(marks, record.image_id, whole.labels),
        own_tags=[region.tag for region in whole.labels],
        reviewer=viewer.reviewer,
        known_tags=index.frequent_tags(SUGGESTED_TAGS),
        pad_json=json.dumps(to_pad_json(record), indent=1, ensure_ascii=False),
        retry_command=viewer.retry_command,
    )


def _legend(record: PadRecord) -> list[tuple[str, list[int]]]:
    """The tags of the regions, in the record's order, with the numbers of their regions."""
    found: dict[str, list[int]] = {}
    for number, region in enumerate(record.labels):
        found.setdefault(region.tag, []).append(number)
    return list(found.items())


def _provenance(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What the manifest records of how the data set was made, in words."""
    models, identity, versions = (
        _dict(manifest.get(name)) for name in ("models", "identity", "versions")
    )
    found: list[tuple[str, str]] = []
    for stage in dict.fromkeys([*models, *identity]):
        details = {**_dict(identity.get(stage)), **_dict(models.get(stage))}
        if details:
            words = [f"{name.replace('_', ' ')} {_short(value)}" for name, value in details.items()]
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
