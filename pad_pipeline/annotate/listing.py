"""The images of a source with what a config takes as given for them: captions, tags, boxes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.errors import Setting, UserError, plural
from pad_pipeline.records import TagOrigin
from pad_pipeline.sources import Given, ManifestRow, list_source

logger = logging.getLogger(__name__)

_NUM_NAMED = 3


def list_given(
    source: str, config: AnnotateConfig, *, captions: str | None, images: str | None
) -> Iterator[ManifestRow]:
    """The rows of `list_source`; raises `UserError` where the config takes what is not given."""
    origins = config.tag_origins
    if "classes" in origins and config.classes is None:
        raise UserError(Setting("tag.from_", "classes"), " needs ", Setting("classes"))
    if config.takes_boxes and config.detect.boxes is None:
        raise UserError(Setting("detect.from_", "boxes"), " needs ", Setting("detect.boxes"))
    given = Given(
        tags=config.tag.column if "column" in origins else None,
        boxes=config.detect.boxes,
        box_format=config.detect.box_format,
        masks=config.segment.from_ == "masks",
    )
    rows = list_source(source, captions=captions, images=images, given=given)
    return _with_phrases(rows, source, origins) if "captions" in origins else rows


def _with_phrases(
    rows: Iterator[ManifestRow], source: str, origins: Sequence[TagOrigin]
) -> Iterator[ManifestRow]:
    """The rows; images without a caption, for which nothing is looked for then, are counted."""
    missing: list[str] = []
    num_rows = num_missing = 0
    for row in rows:
        num_rows += 1
        if row.caption is None:
            num_missing += 1
            missing += [row.image_id] if num_missing <= _NUM_NAMED else []
        yield row
    if not num_missing:
        return
    if num_missing == num_rows:
        raise UserError(
            f"no image of {source} has a caption, which ",
            Setting("tag.from_", ",".join(origins)),
            " takes tags from: give them with ",
            Setting("captions"),
        )
    logger.warning(
        "%s of %s have no caption to take tags from (%s%s)",
        f"{num_missing:,}",
        plural(num_rows, "image"),
        ", ".join(missing),
        ", …" if num_missing > _NUM_NAMED else "",
    )
