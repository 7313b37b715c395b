"""Filters as a condition of SQL on the tables of the index."""

from __future__ import annotations

from typing import Any

from pad_pipeline.view.filters import REGION_LIMITS, Filters
from pad_pipeline.view.lasso import covered_cells

CAUSE = "coalesce(stage || ': ' || type, 'unknown')"
"""Of a failed image, as `stage: error type`."""


def where_clause(filters: Filters) -> tuple[str, list[Any]]:
    """A condition on `images` and the values of its parameters."""
    parts: list[str] = ["true"]
    values: list[Any] = []

    def add(condition: str, *parameters: Any) -> None:
        parts.append(condition)
        values.extend(parameters)

    if filters.status:
        add("status = ?", filters.status)
    if filters.cause:
        add(f"status = 'failed' AND {CAUSE} = ?", filters.cause)
    for word in filters.q.lower().split():
        add("contains(words, ?)", word)
    if filters.image:
        add("contains(image_id, ?)", filters.image)
    if filters.lasso:
        add(
            "position IN (SELECT position FROM places WHERE get_bit(?::BLOB::BIT, cell) = 1)",
            covered_cells(filters.lasso),
        )
    if filters.review == "unmarked":
        own = "m.position = images.position"
        add(f"NOT EXISTS (SELECT 1 FROM marked m WHERE {own})")
    elif filters.review:
        add("position IN (SELECT position FROM marked WHERE kind = ?)", filters.review)
    if filters.min_regions is not None:
        add("num_regions >= ?", filters.min_regions)
    if filters.max_regions is not None:
        add("num_regions <= ?", filters.max_regions)
    on_regions, limits = _region_conditions(filters)
    if filters.tag and filters.boxed == "no":
        own = "tag_id = (SELECT tag_id FROM tag_names WHERE tag = ?)"
        for tag in filters.tag:
            add(f"position IN (SELECT position FROM image_tags WHERE {own})", tag)
            add(f"position NOT IN (SELECT position FROM regions WHERE {own})", tag)
    elif filters.tag:
        for tag in filters.tag:
            add(
                "position IN (SELECT position FROM regions WHERE tag_id = "
                f"(SELECT tag_id FROM tag_names WHERE tag = ?){on_regions})",
                tag,
                *limits,
            )
    elif on_regions:
        add(f"position IN (SELECT position FROM regions WHERE true{on_regions})", *limits)
    return " AND ".join(parts), values


def region_clause(filters: Filters, *, of_tags: bool = True) -> tuple[str, list[Any]]:
    """A condition on `regions` and its values: those that make an image pass, in images that pass.

    With `of_tags=False` regions of every tag.
    """
    limits, values = _region_conditions(filters)
    parts = [f"true{limits}"]
    unboxed = filters.boxed == "no"
    if of_tags and filters.tag and not unboxed:
        marks = ", ".join("?" * len(filters.tag))
        parts.append(f"tag_id IN (SELECT tag_id FROM tag_names WHERE tag IN ({marks}))")
        values += filters.tag
    # A region that meets the conditions on regions is why its image passes those.
    alone = of_tags and len(filters.tag) <= 1 and not unboxed
    rest = filters.model_copy(update=dict.fromkeys(REGION_LIMITS) | ({"tag": ()} if alone else {}))
    if (rest if alone or not filters.tag else filters).any:
        where, more = where_clause(rest if alone or not filters.tag else filters)
        parts.append(f"position IN (SELECT position FROM images WHERE {where})")
        values += more
    return " AND ".join(parts), values


def _region_conditions(filters: Filters) -> tuple[str, list[Any]]:
    text, values = "", []
    # Scores are compared as float32, the shards' own precision: 0.7 must pass 0.7.
    for column, kind, least, below in (
        ("score", "FLOAT", filters.min_score, filters.max_score),
        ("area", "BIGINT", filters.min_area, None),
        ("predicted_iou", "FLOAT", filters.min_iou, filters.max_iou),
        ("share", "FLOAT", filters.min_share, filters.max_share),
    ):
        if least:
            text += f" AND {column} >= ?::{kind}"
            values.append(least)
        if below is not None:
            text += f" AND {column} < ?::{kind}"
            values.append(below)
    return text, values
