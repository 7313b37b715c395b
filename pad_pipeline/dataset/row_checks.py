"""What must hold within a record: its status, its regions' numbers, its masks; for many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pad_pipeline.dataset.findings import Findings, Tally
from pad_pipeline.dataset.mask_checks import measure_masks
from pad_pipeline.masks import FAULTS

STATUSES = ("ok", "empty", "failed")
BOX_TOLERANCE = 0.05
"""A box may reach out of its image by this fraction of the image's side before it is a warning."""
LEAK_LIMIT = 0.5
"""Smallest fraction of a mask within its grown box that is not a warning."""


def check_rows(batch: pa.RecordBatch, shard: str, problems: Findings, tally: Tally) -> None:
    """Unique ids, known statuses, and status, labels, error and size that agree."""
    statuses = batch.column("status").to_pylist()
    num_labels = np.diff(batch.column("labels").offsets).tolist()
    tally.statuses.update(statuses)
    tally.num_regions += sum(num_labels)
    for image_id, status, labels, error, width, height in zip(
        batch.column("image_id").to_pylist(),
        statuses,
        num_labels,
        batch.column("error").is_valid().to_pylist(),
        batch.column("width").to_pylist(),
        batch.column("height").to_pylist(),
        strict=True,
    ):
        if image_id in tally.ids:
            problems.add("duplicate id", "this image has more than one row", shard, image_id)
        tally.ids.add(image_id)
        message = _disagreement(status, labels, error)
        if message:
            problems.add("status", message, shard, image_id)
        if status != "failed" and (width < 1 or height < 1):
            problems.add("size", f"{width}x{height} is no size of an image", shard, image_id)


def check_phrases(batch: pa.RecordBatch, shard: str, problems: Findings) -> None:
    """Phrases that lie in a caption of their image; the first schema had none."""
    tags = batch.column("tags")
    structs = tags.flatten()
    if "caption_index" not in [field.name for field in structs.type]:
        return
    rows = np.repeat(np.arange(batch.num_rows), np.diff(tags.offsets))
    for number in np.flatnonzero(structs.field("caption_index").is_valid()).tolist():
        row, tag = int(rows[number]), structs[number].as_py()
        captions = batch.column("captions")[row].as_py() or [batch.column("caption")[row].as_py()]
        index, start, end = (tag[f"caption_{name}"] for name in ("index", "start", "end"))
        caption = captions[index] if 0 <= index < len(captions) else None
        if None in (caption, start, end) or not 0 <= start < end <= len(caption or ""):
            message = f"the phrase {tag['tag']!r} has no place in caption {index}: {start} to {end}"
            problems.add("phrase", message, shard, batch.column("image_id")[row].as_py())


def _disagreement(status: str, labels: int, error: bool) -> str | None:
    if status not in STATUSES:
        return f"the status {status!r} is none of {', '.join(STATUSES)}"
    if (status == "ok") != (labels > 0):
        return f'the status is "{status}", but it has {labels} regions'
    if (status == "failed") != error:
        return f'the status is "{status}", but it has {"an" if error else "no"} error'
    return None


@dataclass(frozen=True, slots=True)
class Regions:
    """All regions of a batch: `sides` (N, 2) are width and height of their images, in pixels."""

    shard: str
    ids: pa.Array
    tags: pa.Array
    sides: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    structs: pa.StructArray

    def report(
        self, to: Findings, kind: str, wrong: NDArray[np.bool_], describe: Callable[[int], str]
    ) -> None:
        """Adds a finding for every region that is `wrong`, an (N,) mask."""
        for index in np.flatnonzero(wrong).tolist():
            message = f"{self.tags[index].as_py()!r}: {describe(index)}"
            to.add(kind, message, self.shard, self.ids[index].as_py())


def check_regions(
    batch: pa.RecordBatch, shard: str, problems: Findings, warnings: Findings, tally: Tally
) -> None:
    """Boxes, scores and masks of all regions of the batch."""
    labels = batch.column("labels")
    structs = labels.flatten()
    if not len(structs):
        return
    rows = np.repeat(np.arange(batch.num_rows), np.diff(labels.offsets))
    sides = [batch.column(name).to_numpy()[rows].astype(np.int64) for name in ("width", "height")]
    regions = Regions(
        shard=shard,
        ids=batch.column("image_id").take(pa.array(rows)),
        tags=structs.field("tag"),
        sides=np.stack(sides, axis=1),
        boxes_xyxy=structs.field("bbox").flatten().to_numpy().reshape(-1, 4).astype(np.float64),
        structs=structs,
    )
    sound = _check_boxes(regions, problems, warnings)
    _check_scores(regions, problems)
    _check_masks(regions, sound, problems, warnings, tally)


def _check_boxes(regions: Regions, problems: Findings, warnings: Findings) -> NDArray[np.bool_]:
    """Reports and returns which boxes are finite and the right way round."""
    boxes, sides = regions.boxes_xyxy, regions.sides

    def text(index: int) -> str:
        return "the box [" + ", ".join(f"{value:.1f}" for value in boxes[index]) + "]"

    sound: NDArray[np.bool_] = np.all(np.isfinite(boxes), axis=1)
    sound &= np.all(boxes[:, :2] <= boxes[:, 2:], axis=1)
    regions.report(
        problems, "box", ~sound, lambda i: f"{text(i)} is not finite with x0 <= x1, y0 <= y1"
    )
    slack = BOX_TOLERANCE * sides
    outside = np.any((boxes[:, :2] < -slack) | (boxes[:, 2:] > sides + slack), axis=1)
    regions.report(
        warnings,
        "box outside its image",
        outside & sound,
        lambda i: f"{text(i)} reaches far out of {sides[i, 0]}x{sides[i, 1]} pixels",
    )
    return sound


def _check_scores(regions: Regions, problems: Findings) -> None:
    score = regions.structs.field("score").to_numpy()
    regions.report(
        problems,
        "score",
        ~((score >= 0) & (score <= 1)),
        lambda i: f"the score {score[i]:.4g} is not between 0 and 1",
    )
    # The segmenter's own estimate is a plain regression and may pass 0 or 1 by a little.
    quality = regions.structs.field("predicted_iou").to_numpy()
    regions.report(
        problems,
        "predicted IoU",
        ~((quality >= -1) & (quality <= 2)),
        lambda i: f"the predicted IoU {quality[i]:.4g} is no estimate of a value from 0 to 1",
    )


def _check_masks(
    regions: Regions,
    box_sound: NDArray[np.bool_],
    problems: Findings,
    warnings: Findings,
    tally: Tally,
) -> None:
    width, height = regions.sides.T
    found = measure_masks(regions.structs.field("rle_mask"), height, width, regions.boxes_xyxy)
    malformed = found.faults > 0
    regions.report(problems, "mask malformed", malformed, lambda i: FAULTS[found.faults[i]])
    other_size = ~malformed & (found.covered != width * height)
    regions.report(
        problems,
        "mask of another size",
        other_size,
        lambda i: f"its runs cover {found.covered[i]} pixels, not {width[i]}x{height[i]}",
    )
    sound = ~malformed & ~other_size
    stated = regions.structs.field("area").to_numpy()
    regions.report(
        problems,
        "area",
        sound & (found.area != stated),
        lambda i: f"its mask has {found.area[i]} pixels, but its area says {stated[i]}",
    )
    empty = sound & (found.area == 0)
    regions.report(warnings, "empty mask", empty, lambda i: "its mask has no pixel")
    placed = sound & box_sound & ~empty
    off = placed & (found.inside == 0)
    regions.report(
        warnings, "mask off its box", off, lambda i: "no pixel of its mask lies in or near its box"
    )
    leaks = placed & ~off & (found.inside < LEAK_LIMIT * found.area)
    regions.report(
        warnings,
        "mask leaks out of its box",
        leaks,
        lambda i: f"only {found.inside[i] / found.area[i]:.0%} of its mask lies in or near its box",
    )
    tally.num_masks += int(placed.sum())
    tally.num_masks_off += int(off.sum())
    tally.mask_pixels += int(found.area[placed].sum())
    tally.mask_pixels_inside += int(found.inside[placed].sum())
