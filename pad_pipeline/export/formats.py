"""A data set in the formats that other programs read, all of it or a selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pad_pipeline.dataset.known_tags import warn_about_unknown_tags
from pad_pipeline.dataset.manifest import State
from pad_pipeline.dataset.reader import Dataset, open_dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export.coco import write_coco
from pad_pipeline.export.grounded_captions import write_grounded_captions
from pad_pipeline.export.llava import write_llava
from pad_pipeline.export.pad_json import write_pad_json
from pad_pipeline.export.webdataset import write_webdataset


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    `left_out` counts the images that are not in it by reason, such as "failed". `state` is the data
    set's: what was read of a "running" one is not all of it.
    """

    dest: str
    format: str
    state: State
    num_images: int
    num_regions: int
    left_out: dict[str, int] = field(default_factory=dict)


Writer = Callable[[Dataset, str, Selection, str | None], Counter[str]]

FORMATS: dict[str, Writer] = {
    "pad-json": write_pad_json,
    "coco": write_coco,
    "grounded-captions": write_grounded_captions,
    "llava": write_llava,
    "webdataset": write_webdataset,
}
"""Each writes `dest` whole or not at all and counts "images", "regions" and what it leaves out.

`cli/dataset.py` names them again, as `--help` does without pyarrow and Pillow: a test compares.
"""


def export(
    url: str, dest: str, format: str, select: Selection | None = None, images: str | None = None
) -> ExportReport:
    """Writes the data set at `url` to `dest`, with memory for a few hundred records at a time.

    `pad-json` is one JSON array with Table 9's keys, `coco` one instances file that pycocotools
    loads, `grounded-captions` the captions with the regions of their phrases, `llava` LLaVA's
    pre-training file (images with a caption only), `webdataset` a folder of
    tar shards with the images' bytes, which are read from the records' uri or below `images`.
    Failed images are left out of all of them. Raises `UserError` for an unknown format, a `dest`
    that exists, and a data set or images that cannot be read.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    dataset = open_dataset(url)
    warn_about_unknown_tags(dataset, select)
    counts = FORMATS[format](dataset, dest, select or Selection(), images)
    num_images, num_regions = counts.pop("images", 0), counts.pop("regions", 0)
    return ExportReport(
        dest, format, dataset.state, num_images, num_regions, left_out=dict(counts.most_common())
    )
