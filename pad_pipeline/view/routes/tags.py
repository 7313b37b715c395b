"""The list of tags, and the page of one with the tags that occur in the same images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.dependencies import MarkedViewer
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.parameters import OptionalInForm, PageNumber, Parameters
from pad_pipeline.view.queries import TagSort
from pad_pipeline.view.viewer import Viewer

router = APIRouter()

PER_PAGE = 100
_COOCCURRING_IN_TABLE = 3
_EXAMPLES = 12


class TagsQuery(Parameters, frozen=True):
    """One tag by its `name`, or the tags whose name holds `q`."""

    name: str | None = None
    q: str = ""
    sort: Annotated[TagSort, OptionalInForm] = "regions"
    reverse: Annotated[bool, OptionalInForm] = False
    page: PageNumber = 1


@router.get("/tags")
def tags(request: Request, viewer: MarkedViewer, query: Annotated[TagsQuery, Query()]) -> Response:
    """The list, or one tag."""
    if query.name is not None:
        return _one(request, viewer, query.name)
    return _list(request, viewer, query)


def _list(request: Request, viewer: Viewer, query: TagsQuery) -> Response:
    index, words, page = viewer.data.index, query.q.strip(), max(query.page, 1)
    offset = (page - 1) * PER_PAGE
    rows, total = index.tags(
        words, query.sort, reverse=query.reverse, limit=PER_PAGE, offset=offset
    )
    cooccurring_tags = index.cooccurring_tags([row["tag_id"] for row in rows])
    return viewer.page(
        request,
        "tags.html",
        title="Tags",
        active="tags",
        rows=rows,
        cooccurring_tags={
            tag_id: found[:_COOCCURRING_IN_TABLE] for tag_id, found in cooccurring_tags.items()
        },
        words=words,
        sort=query.sort,
        reverse=query.reverse,
        page_number=page,
        num_pages=max(1, -(-total // PER_PAGE)),
        total=total,
        offset=offset,
        largest=max((row["num_regions"] for row in rows), default=1),
    )


def _one(request: Request, viewer: Viewer, name: str) -> Response:
    index = viewer.data.index
    row = index.tag(name)
    if row is None:
        raise HTTPException(404, f"the data set has no tag called {name[:200]!r}")
    [cooccurring_tags] = index.cooccurring_tags([row["tag_id"]]).values()
    filters = Filters(tag=(name,), sort="score")
    images = index.images(filters, _EXAMPLES, 0)
    return viewer.page(
        request,
        "tag.html",
        title=name,
        active="tags",
        row=row,
        cooccurring_tags=cooccurring_tags,
        images=[
            {**image, "href": of_image(image["image_id"], query=filters.query())}
            for image in images
        ],
        both=lambda other: Filters(tag=(name, other)).address("/"),
    )
