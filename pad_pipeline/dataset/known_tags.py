"""Says when a selection names tags that a data set does not have: a slip, more often than not."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline.dataset.reader import Dataset, iter_batches
from pad_pipeline.dataset.selection import Selection

logger = logging.getLogger(__name__)

_COLUMNS = ("tags.list.element.tag", "labels.list.element.tag")


def warn_about_unknown_tags(dataset: Dataset, select: Selection | None) -> None:
    """Logs the selected and excluded tags that no image and no region has.

    Reads the columns of tags until all have been met; nothing where the selection names none.
    """
    unknown = {*select.tags, *select.exclude_tags} if select else set()
    if not unknown:
        return
    for _, batch in iter_batches(dataset, _COLUMNS):
        for name in ("tags", "labels"):
            unknown -= set(pc.unique(_tags(batch.column(name))).to_pylist())
        if not unknown:
            return
    names = ", ".join(repr(tag) for tag in sorted(unknown))
    logger.warning("nothing in %s has the tag%s %s", dataset.url, "s" * (len(unknown) > 1), names)


def _tags(column: pa.ListArray) -> pa.Array:
    return pc.struct_field(pc.list_flatten(column), "tag")
