"""The commands around a data set: `export`, `import`, `validate`, `stats`, `render`, `show`."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from pad_pipeline.cli.options import DataSet, Images
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.importer.options import ImportOptions
from pad_pipeline.review.choice import ReviewChoice


def export(
    dataset: DataSet,
    dest: Positional[Annotated[str, arg(metavar="DEST")]],
    format: Literal[
        "pad-json",
        "coco",
        "grounded-captions",
        "llava",
        "webdataset",
        "yolo-seg",
        "voc",
        "labelme",
        "label-studio",
        "cvat",
        "fiftyone",
        "hf",
        "grit",
    ],
    select: Annotated[Selection, arg(name="")],
    options: Annotated[ExportOptions, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
) -> None:
    """Write a data set, or a selection of it, in another format.

    Args:
        dest: File (pad-json, coco, llava, label-studio, cvat, grit,
            grounded-captions) or folder to write; with
            --split always a folder.
        format: pad-json has exactly the paper's keys; coco loads in pycocotools; hf is for
            `datasets`; grounded-captions and grit have the phrases of captions.
    """
    from pad_pipeline.cli.reports.dataset import print_export
    from pad_pipeline.export.formats import export as run

    print_export(run(dataset, dest, format, select, options, review))


def import_labels(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    format: Literal["coco", "yolo-seg", "label-studio", "labelme"],
    options: Annotated[ImportOptions, arg(name="")],
) -> None:
    """Make a data set of labels that other programs wrote.

    Human or corrected labels, for training and for comparison.

    Args:
        source: COCO's or Label Studio's JSON file, folder of LabelMe's files, or data.yaml or
            folder of YOLO.
        output: Folder for the data set; there must be none yet.
        format: What the source is.
    """
    from pad_pipeline.cli.reports.dataset import print_import
    from pad_pipeline.importer.formats import import_labels as run

    print_import(run(source, output, format, options))


def validate(dataset: DataSet) -> None:
    """Check every record, mask and count of a data set.

    The exit code is 1 if anything is wrong.
    """
    from pad_pipeline.cli.reports.dataset import print_validation
    from pad_pipeline.dataset.validate import validate as run

    report = run(dataset)
    print_validation(report)
    if not report.ok:
        raise SystemExit(1)


def stats(
    dataset: DataSet,
    select: Annotated[Selection, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    json: str | None = None,
    png: str | None = None,
) -> None:
    """Count images, regions and tags of a data set.

    Args:
        json: Also write the statistics to this file.
        png: Also draw the histograms into this file.
    """
    from pad_pipeline.cli.reports.dataset import print_stats
    from pad_pipeline.dataset.stats import compute_stats

    print_stats(compute_stats(dataset, select, review), json=json, png=png)


def render(
    dataset: DataSet,
    dest: Positional[Annotated[str, arg(metavar="DEST")]],
    select: Annotated[Selection, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    images: Images = None,
    limit: int | None = None,
) -> None:
    """Draw masks, boxes and tags on the images.

    Args:
        dest: Folder for the pictures.
        limit: Draw at most this many images.
    """
    from pad_pipeline.cli.reports.dataset import print_render
    from pad_pipeline.dataset.render import render as run

    drawn = run(dataset, dest, images=images, limit=limit, select=select, review=review)
    print_render(drawn)


def show(
    dataset: DataSet,
    image_id: Positional[Annotated[str, arg(metavar="IMAGE_ID")]],
    review: Annotated[ReviewChoice, arg(name="")],
    images: Images = None,
    width: int = 72,
) -> None:
    """Show one image of a data set in the terminal.

    A small picture, its regions, and their marks.

    Args:
        image_id: Which image; `bus.jpg` also finds `sub/bus.jpg` where there is one such.
        width: Columns of the picture; 0 leaves it out.
    """
    from pad_pipeline.dataset.preview import print_preview

    print_preview(dataset, image_id, images=images, width=width, review=review)
