"""Which regions the page of objects shows, and in which order, as SQL on the index."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from pad_pipeline.view.parameters import (
    Count,
    Fraction,
    OptionalInForm,
    PageNumber,
    Parameters,
)
from pad_pipeline.view.queries import Index, Row

CropSort = Literal["score", "area", "iou"]
CROP_SORTS: tuple[CropSort, ...] = get_args(CropSort)
_KEYS = {
    "score": ("score", "CASE WHEN isfinite(score) THEN (score * 8192)::INTEGER ELSE 9000 END"),
    "area": ("area", "(ln(greatest(area, 0) + 1) * 512)::INTEGER"),
    "iou": (
        "predicted_iou",
        "CASE WHEN isfinite(predicted_iou) THEN (predicted_iou * 8192)::INTEGER ELSE 9000 END",
    ),
}
"""What is sorted by, and a whole number that grows with it."""


class CropsQuery(Parameters, frozen=True):
    """Regions of one tag, or of all, that are at least so sure and so large; the largest first."""

    tag: str = ""
    min_score: Fraction = None
    min_area: Count = None
    min_iou: Fraction = None
    sort: Annotated[CropSort, OptionalInForm] = "score"
    reverse: Annotated[bool, OptionalInForm] = False
    page: PageNumber = 1

    def address(self, **changes: Any) -> str:
        """The page with these values and `changes`, without those that are as by default."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        values = {**self.model_dump(), **changes}
        if values["reverse"]:
            values["reverse"] = "1"
        query = urlencode({k: v for k, v in values.items() if v is not None and v != defaults[k]})
        return f"/crops?{query}" if query else "/crops"


def list_crops(index: Index, query: CropsQuery, limit: int) -> tuple[list[Row], int, int]:
    """The regions of a page, each with its tag and image; how many pass; and the page's number.

    Millions are not sorted for it: they are counted in fine bins of what they are sorted by, and
    only the bins of the page are sorted.
    """
    where, values = _where(query)
    key, bin_ = _KEYS[query.sort]
    direction = "ASC" if query.reverse else "DESC"
    bins = index.rows(
        f"SELECT {bin_} AS bin, count(*) AS number FROM regions WHERE {where} GROUP BY 1 "
        f"ORDER BY 1 {direction}",
        values,
    )
    total = sum(row["number"] for row in bins)
    page = min(max(query.page, 1), max(1, -(-total // limit)))
    first, last = (page - 1) * limit, min(page * limit, total)
    before, inside = 0, []
    for row in bins:
        if before < last and before + row["number"] > first:
            inside.append((before, row["bin"]))
        before += row["number"]
    if not inside:
        return [], total, page
    low, high = sorted((inside[0][1], inside[-1][1]))
    chosen = index.rows(
        "SELECT position, number, tag_id, score, area, share, predicted_iou FROM regions "
        f"WHERE {where} AND {bin_} BETWEEN ? AND ? "
        f"ORDER BY {key} {direction}, position, number LIMIT ? OFFSET ?",
        [*values, low, high, last - first, first - inside[0][0]],
    )
    images = {row["position"]: row for row in index.at(sorted({r["position"] for r in chosen}))}
    return (
        [
            {
                **row,
                "tag": index.tag_names[row["tag_id"]],
                "image_id": images[row["position"]]["image_id"],
            }
            for row in chosen
        ],
        total,
        page,
    )


def _where(query: CropsQuery) -> tuple[str, list[Any]]:
    parts, values = ["true"], []
    for condition, value in (
        ("tag_id = (SELECT tag_id FROM tag_names WHERE tag = ?)", query.tag),
        ("score >= ?::FLOAT", query.min_score),
        ("area >= ?", query.min_area),
        ("predicted_iou >= ?::FLOAT", query.min_iou),
    ):
        if value:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values
