"""One image of a data set in the terminal: a small picture in half blocks, and its regions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pad_pipeline import storage
from pad_pipeline.dataset.chooser import LEFT_OUT
from pad_pipeline.dataset.reader import find_ids, find_record, open_dataset
from pad_pipeline.dataset.record_images import read_record_images
from pad_pipeline.drawing.colours import colour, distinct_colours
from pad_pipeline.drawing.console import stdout_console
from pad_pipeline.drawing.record import draw_record
from pad_pipeline.drawing.terminal import (
    half_blocks,
    printable,
    terminal_colour,
)
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.records import PadRecord
from pad_pipeline.review.choice import ReviewChoice, Reviewed
from pad_pipeline.review.events import Event
from pad_pipeline.review.log import review_url
from pad_pipeline.review.marks import RegionMarks

logger = logging.getLogger(__name__)

_DRAWN_SIDE = 480


def print_preview(
    url: str,
    image_id: str,
    *,
    images: str | None = None,
    width: int = 72,
    review: ReviewChoice | None = None,
) -> None:
    """Print one image's record on stdout with its marks, its picture at most `width` columns wide.

    `image_id` may be the end of an id, from a slash on, that no other id has. Regions have the tags
    that a review gave them; `review` may also leave some out.
    The picture is drawn where stdout shows colours and the image can be read. Raises `UserError`
    where the data set has no such image or cannot be read, and where the review leaves it out.
    """
    if width < 0:
        raise UserError(Setting("width"), f" must be at least 0 columns, not {width}")
    whole = _find(url, image_id)
    record, marks = _as_reviewed(url, whole, review or ReviewChoice())
    console = stdout_console()
    parts: list[Text | Table] = [_heading(record, marks)]
    if width and console.color_system in ("truecolor", "256") and record.status != "failed":
        picture = _picture(record, images)
        if picture is not None:
            parts.append(half_blocks(picture, min(width, console.width)))
    parts += _facts(record, marks)
    console.print(Group(*parts))


def _find(url: str, name: str) -> PadRecord:
    """The record with this id, else the only one whose id ends with it."""
    dataset = open_dataset(url)
    record = find_record(dataset, name)
    if record is None:
        similar = find_ids(dataset, name)
        if len(similar) > 1:
            raise UserError(f"{url} has several images called {name!r}: {', '.join(similar)}")
        record = find_record(dataset, similar[0]) if similar else None
    if record is None:
        raise UserError(
            f"{url} has no image called {name!r}; `pad-pipeline view {url}` finds them by tag "
            "and caption"
        )
    return record


@dataclass(frozen=True, slots=True)
class _Marks:
    """The mark of an image, and of each region that is shown its own and the tag it was given."""

    image: Event | None
    regions: list[RegionMarks]
    own_tags: list[str]


def _as_reviewed(url: str, whole: PadRecord, choice: ReviewChoice) -> tuple[PadRecord, _Marks]:
    """The record as its review has it; as it is where there is none."""
    unmarked = _Marks(None, [RegionMarks() for _ in whole.labels], [r.tag for r in whole.labels])
    if not choice.is_wanted and not storage.exists(review_url(url, None)):
        return whole, unmarked
    reviewed = Reviewed(url, choice)
    image = reviewed.marks.images.get(whole.image_id)
    if image is not None and (changed := image.unmatched(whole)):
        logger.warning(
            "not shown: marks of %s that differ from what was marked", ", ".join(changed)
        )
    found = reviewed.apply(whole)
    if found is None:
        raise UserError(
            f"{whole.image_id} is {LEFT_OUT} in {reviewed.url}: show it without ",
            Setting("only_accepted", True),
            " and ",
            Setting("without_rejected", True),
        )
    record, numbers = found
    if image is None:
        return record, unmarked
    of_regions = image.of_regions(whole.labels)
    return record, _Marks(
        image.verdict,
        [of_regions[number] for number in numbers],
        [whole.labels[number].tag for number in numbers],
    )


def _picture(record: PadRecord, images: str | None) -> NDArray[np.uint8] | None:
    """The record drawn as `render` draws it, without labels; None where there is no image."""
    [data] = read_record_images([record], images)
    try:
        if isinstance(data, Exception):
            raise data
        pixels = decode_image(data)
        scale = min(1.0, _DRAWN_SIDE / max(pixels.shape[:2]))
        return np.asarray(draw_record(pixels, record, labels=False, boxes=False, scale=scale))
    except (OSError, ImageError, UserError) as error:
        logger.warning("shown without its picture: %s", error)
        return None


def _heading(record: PadRecord, marks: _Marks) -> Text:
    text = Text(printable(record.image_id), style="bold")
    text.append(f"  {record.width}×{record.height}  {record.status}", "not bold dim")
    if marks.image is not None:
        text.append(f"  {_who(marks.image)}", "not bold")
    text.append("\n")
    text.append(printable(record.caption or "no caption"), "not bold")
    return text


def _who(mark: Event | None) -> str:
    return "" if mark is None else f"{mark.value} by {printable(mark.by)}"


def _facts(record: PadRecord, marks: _Marks) -> list[Text | Table]:
    if record.status == "failed":
        error = record.error
        message = f"{error.stage}: {error.type}: {error.message}" if error else "unknown"
        return [Text(f"failed: {printable(message)}", "red")]
    found: list[Text | Table] = []
    if record.labels:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("", "tag", "score", "box x0, y0, x1, y1", "area", "pred. IoU"):
            table.add_column(name, justify="left" if name in ("", "tag") else "right")
        if is_marked := any(mark.verdict is not None for mark in marks.regions):
            table.add_column("mark")
        pixels = max(record.width * record.height, 1)
        colours = distinct_colours(region.tag for region in record.labels)
        for region, mark, own in zip(record.labels, marks.regions, marks.own_tags, strict=True):
            was = f" (was {printable(own)})" if mark.tag is not None else ""
            table.add_row(
                Text("●", Style(color=terminal_colour(colour(colours[region.tag])))),
                Text(printable(region.tag) + was),
                f"{region.score:.2f}",
                ", ".join(f"{value:.0f}" for value in region.bbox),
                f"{region.area / pixels:.1%}",
                f"{region.predicted_iou:.2f}",
                *([Text(_who(mark.verdict))] if is_marked else []),
            )
        found.append(table)
    boxed = {region.tag for region in record.labels}
    rest = [f"{printable(tag.tag)} {tag.score:.2f}" for tag in record.tags if tag.tag not in boxed]
    if rest:
        found.append(Text("tags without a box: " + ", ".join(rest)))
    return found
