"""Labels of other programs as a data set of PAD records: shards and manifest."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import count, islice
from typing import Any

from pad_pipeline import __version__, storage
from pad_pipeline.dataset.manifest import FORMAT, IMPORTED, write_manifest
from pad_pipeline.dataset.writer import manifest_entry, shard_name, write_table
from pad_pipeline.errors import UserError
from pad_pipeline.importer.coco import read_coco
from pad_pipeline.importer.label_studio import read_label_studio
from pad_pipeline.importer.labelled import Reader
from pad_pipeline.importer.labelme import read_labelme
from pad_pipeline.importer.options import ImportOptions
from pad_pipeline.importer.records import iter_records
from pad_pipeline.importer.yolo import read_yolo
from pad_pipeline.records import COMMON_VERSION, PadRecord, as_version, records_to_table
from pad_pipeline.sources.boxes import Problems
from pad_pipeline.storage.atomic import new_folder

ROWS_PER_SHARD = 2048

FORMATS: dict[str, Reader] = {
    "coco": read_coco,
    "yolo-seg": read_yolo,
    "label-studio": read_label_studio,
    "labelme": read_labelme,
}
"""`cli/dataset.py` names them again, as `--help` does without pyarrow: a test compares."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import wrote.

    `left_out` counts what is not in it by reason, and `examples` are names of the first ones.
    """

    output: str
    format: str
    num_images: int
    num_regions: int
    num_empty: int
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)


def import_labels(
    source: str, output: str, format: str, options: ImportOptions | None = None
) -> ImportReport:
    """Writes the labels at `source` as a data set at `output`, with memory for one shard at a time.

    `source` is COCO's or Label Studio's JSON, a folder of LabelMe's files or a YOLO data set.
    Regions say in `origin` that their masks were given. Raises `UserError` for an unknown format,
    an `output` that exists, a source that cannot be read, and where nothing of it could be taken.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    options = options or ImportOptions()
    source = storage.absolute(source)
    if not storage.exists(source):
        raise UserError(f"no such file or folder of labels: {source}")
    images = options.images and storage.absolute(options.images)
    options = replace(options, images=images)
    if images is not None and not storage.exists(images):
        raise UserError(f"no such folder or archive of images: {images}")
    problems, written = Problems(), _Written()
    with new_folder(output) as folder:
        labels = FORMATS[format](source, images, problems)
        written.shards(folder, iter_records(labels, options, problems))
        if problems.counts and not written.num_regions:
            reason, number = problems.counts.most_common(1)[0]
            raise UserError(
                f"not one region of {source} could be taken; left out most of all: {reason} "
                f"({number:,}, such as {problems.names[reason][0]})"
            )
        write_manifest(folder, _manifest(source, format, options, problems, written))
    return ImportReport(
        output,
        format,
        written.num_images,
        written.num_regions,
        written.num_empty,
        dict(problems.counts.most_common()),
        problems.names,
    )


@dataclass
class _Written:
    """What is in the shards so far."""

    num_images: int = 0
    num_regions: int = 0
    num_empty: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def shards(self, folder: str, records: Iterator[PadRecord]) -> None:
        """Write the records into shards."""
        for number in count():
            if not (rows := list(islice(records, ROWS_PER_SHARD))):
                return
            name = shard_name(number, number + 1)
            table = as_version(records_to_table(rows), COMMON_VERSION)
            write_table(storage.join(folder, name), table, row_group_size=ROWS_PER_SHARD)
            self.entries.append(manifest_entry(folder, name, len(rows)))
            self.num_images += len(rows)
            self.num_regions += sum(len(record.labels) for record in rows)
            self.num_empty += sum(record.status == "empty" for record in rows)


def _manifest(
    source: str, format: str, options: ImportOptions, problems: Problems, written: _Written
) -> dict[str, Any]:
    packages = ("pyarrow", "numpy", "pycocotools")
    return {
        "format": FORMAT,
        "schema_version": COMMON_VERSION,
        "state": "finished",
        "num_images": written.num_images,
        IMPORTED: {
            "format": format,
            "fill_boxes": options.fill_boxes,
            "left_out": dict(problems.counts.most_common()),
        },
        "source": source,
        "captions": options.captions,
        "images": options.images,
        "versions": {
            "pad_pipeline": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "shards": written.entries,
    }
