"""What FastAPI gives the routes: the viewer, the filters of an address, the image of a path."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Query, Request

from pad_pipeline.view.filters import Filters
from pad_pipeline.view.queries import Row
from pad_pipeline.view.source import DataSet
from pad_pipeline.view.viewer import Viewer


def _viewer(request: Request) -> Viewer:
    return request.app.state.viewer


def _marked_viewer(request: Request) -> Viewer:
    viewer = _viewer(request)
    viewer.index_marks()
    return viewer


def _filters(request: Request, query: Annotated[Filters, Query()]) -> Filters:
    if query.lasso:  # its condition reads the map
        _viewer(request).look_alikes.get()
    _viewer(request).index_marks()
    return query


def _image_id(image_id: str, query_id: Annotated[str, Query(alias="id")] = "") -> str:
    """Of the path, or of the query where browsers would take it out of a path."""
    return image_id or query_id


CurrentViewer = Annotated[Viewer, Depends(_viewer)]
MarkedViewer = Annotated[Viewer, Depends(_marked_viewer)]
"""For pages without filters whose figures go by the marks."""
QueryFilters = Annotated[Filters, Depends(_filters)]
ImageId = Annotated[str, Depends(_image_id)]


def find_image(data: DataSet, image_id: str) -> Row:
    """The row of an image in the index; raises `HTTPException` (404) where there is none."""
    row = data.index.find(image_id)
    if row is None:
        raise HTTPException(404, f"the data set has no image called {image_id[:300]!r}")
    return row
