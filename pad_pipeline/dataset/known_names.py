"""Says when a selection names tags or images that a data set does not have: mostly a slip."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline.dataset.reader import Dataset, iter_batches
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.storage.id_files import read_ids

logger = logging.getLogger(__name__)

_COLUMNS = ("tags.list.element.tag", "labels.list.element.tag")


def warn_about_unknown_names(
    dataset: Dataset, select: Selection | None, new_tags: Collection[str] = ()
) -> None:
    """Logs the selected and excluded tags that no image and no region has, and unknown image ids.

    `new_tags` are names that a review gives to regions. Reads the columns of tags and ids until all
    have been met; nothing where none is named.
    """
    if select is not None and select.ids is not None:
        _warn_about_ids(dataset, select.ids)
    unknown = {*select.tags, *select.exclude_tags} - {*new_tags} if select else set()
    if not unknown:
        return
    for _, batch in iter_batches(dataset, _COLUMNS):
        for name in ("tags", "labels"):
            unknown -= set(pc.unique(_tags(batch.column(name))).to_pylist())
        if not unknown:
            return
    names = ", ".join(repr(tag) for tag in sorted(unknown))
    logger.warning("nothing in %s has the tag%s %s", dataset.url, "s" * (len(unknown) > 1), names)


def _warn_about_ids(dataset: Dataset, url: str) -> None:
    missing = set(read_ids(url))
    for _, batch in iter_batches(dataset, ["image_id"]):
        missing.difference_update(batch.column("image_id").to_pylist())
        if not missing:
            return
    first = ", ".join(repr(name) for name in sorted(missing)[:3])
    logger.warning(
        "%s of the images in %s %s not in %s, such as %s",
        f"{len(missing):,}",
        url,
        "is" if len(missing) == 1 else "are",
        dataset.url,
        first,
    )


def _tags(column: pa.ListArray) -> pa.Array:
    return pc.struct_field(pc.list_flatten(column), "tag")
