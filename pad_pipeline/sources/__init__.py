"""Where images come from: any supported source becomes manifest rows, and rows become bytes."""

from __future__ import annotations

from pad_pipeline.sources.listing import list_source
from pad_pipeline.sources.reading import read_many, read_place
from pad_pipeline.sources.rows import (
    MANIFEST_SCHEMA,
    Given,
    ManifestRow,
    is_box_file,
    rows_to_table,
    table_to_rows,
)

__all__ = [
    "MANIFEST_SCHEMA",
    "Given",
    "ManifestRow",
    "is_box_file",
    "list_source",
    "read_many",
    "read_place",
    "rows_to_table",
    "table_to_rows",
]
