"""The images of a source with what a config takes as given for them: captions, tags, boxes."""

from __future__ import annotations

from collections.abc import Iterator

from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.sources import Given, ManifestRow, list_source


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
    return list_source(source, captions=captions, images=images, given=given)
