"""A data set in the formats that other programs read, all of it or a selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pad_pipeline import storage
from pad_pipeline.dataset.chooser import Chooser
from pad_pipeline.dataset.known_names import warn_about_unknown_names
from pad_pipeline.dataset.manifest import State
from pad_pipeline.dataset.reader import open_dataset, report_unfinished
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError, plural
from pad_pipeline.export.chosen import IN_PART, Chosen
from pad_pipeline.export.coco import write_coco
from pad_pipeline.export.cvat import write_cvat
from pad_pipeline.export.fiftyone import write_fiftyone
from pad_pipeline.export.grit import write_grit
from pad_pipeline.export.grounded_captions import write_grounded_captions
from pad_pipeline.export.huggingface import write_hf
from pad_pipeline.export.label_studio import write_label_studio
from pad_pipeline.export.labelme import write_labelme
from pad_pipeline.export.llava import write_llava
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.export.pad_json import write_pad_json
from pad_pipeline.export.voc import write_voc
from pad_pipeline.export.webdataset import write_webdataset
from pad_pipeline.export.yolo_seg import write_yolo_seg
from pad_pipeline.review.choice import ReviewChoice, mention_unused
from pad_pipeline.similarity.duplicates import read_groups, representatives
from pad_pipeline.similarity.store import find_embeddings
from pad_pipeline.storage.atomic import new_folder


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    `left_out` counts the images that are not in it by reason, such as "failed", and regions where
    the reason begins with that word. `state` is the data set's: what was read of a "running" one is
    not all of it. `parts` counts the images of each part of a split, and `together` says which
    images it has kept in one part, "" where it knows of no near-duplicates.
    """

    dest: str
    format: str
    state: State
    num_images: int
    num_regions: int
    left_out: dict[str, int] = field(default_factory=dict)
    together: str = ""
    parts: dict[str, int] = field(default_factory=dict)


Writer = Callable[[Chosen, str], Counter[str]]


@dataclass(frozen=True, slots=True)
class Format:
    """Who writes a format; `suffix` is the ending of its one file, None where it is a folder.

    A folder with `holds_parts` keeps the parts of a split apart inside; else a part is a file or
    folder of its own.
    """

    write: Writer
    suffix: str | None
    holds_parts: bool = False


FORMATS: dict[str, Format] = {
    "pad-json": Format(write_pad_json, ".json"),
    "coco": Format(write_coco, ".json"),
    "grounded-captions": Format(write_grounded_captions, ".json"),
    "llava": Format(write_llava, ".json"),
    "webdataset": Format(write_webdataset, None),
    "yolo-seg": Format(write_yolo_seg, None, holds_parts=True),
    "voc": Format(write_voc, None, holds_parts=True),
    "labelme": Format(write_labelme, None, holds_parts=True),
    "label-studio": Format(write_label_studio, ".json"),
    "cvat": Format(write_cvat, ".xml"),
    "fiftyone": Format(write_fiftyone, None, holds_parts=True),
    "hf": Format(write_hf, None, holds_parts=True),
    "grit": Format(write_grit, ".jsonl"),
}
"""Each writes `dest` whole or not at all and counts "images", "regions" and what it leaves out.

`cli/dataset.py` names them again, as `--help` does without pyarrow and Pillow: a test compares.
"""


def export(
    url: str,
    dest: str,
    format: str,
    select: Selection | None = None,
    options: ExportOptions | None = None,
    review: ReviewChoice | None = None,
) -> ExportReport:
    """Writes the data set at `url` to `dest`, with memory for a few hundred records at a time.

    A file or a folder, as the format wants it; with `options.split` a folder in which the parts lie
    apart, near-duplicates in one of them where the data set has embeddings. Failed images are left
    out of all of them. Raises `UserError` for an unknown format, a
    `dest` that exists, a data set, review or images that cannot be read, and a split by embeddings
    that are unfinished or of other shards.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    form = FORMATS[format]
    dataset = open_dataset(url)
    report_unfinished(dataset)
    mention_unused(dataset.url, review)
    chooser = Chooser(dataset.url, select, review)
    warn_about_unknown_names(dataset, select, chooser.new_tags)
    chosen = Chosen(dataset, chooser, options or ExportOptions())
    together = ""
    if chosen.options.shares and (embeddings := find_embeddings(dataset)) is not None:
        groups = read_groups(embeddings)
        chosen = replace(chosen, together=representatives(groups))
        together = (
            f"{plural(len(chosen.together), 'image')} in {plural(len(groups), 'group')} of "
            f"near-duplicates stay together (embeddings by {embeddings.model}, similarity from "
            f"{embeddings.duplicates_from:g})"
        )
    if chosen.options.shares and not form.holds_parts:
        counts: Counter[str] = Counter()
        with new_folder(dest) as folder:
            for part in chosen.parts:
                place = storage.join(folder, part + (form.suffix or ""))
                counts += form.write(replace(chosen, part=part), place)
    else:
        counts = form.write(chosen, dest)
    num_images, num_regions = counts.pop("images", 0), counts.pop("regions", 0)
    in_parts = {part: counts.pop(IN_PART + part, 0) for part in chosen.parts}
    parts = in_parts if chosen.options.shares else {}
    left_out = {reason: count for reason, count in counts.most_common() if count}
    return ExportReport(
        dest, format, dataset.state, num_images, num_regions, left_out, together, parts
    )
