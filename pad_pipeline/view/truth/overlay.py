"""What lies over a picture on the ground-truth pages: objects and regions, by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pad_pipeline.drawing.boxes import shown_box
from pad_pipeline.drawing.colours import Colour
from pad_pipeline.drawing.labels import Label, place_texts
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.view.queries import Row

Side = Literal["truth", "found"]

SLUGS = {
    "found": "found",
    "wrong tag": "wrong",
    "found already": "again",
    "no object": "nothing",
    "missed": "missed",
    "ignored": "ignored",
}
"""Outcomes as they stand in addresses and as names of style classes."""
TINTS: dict[str, Colour] = {
    "found": (0, 158, 115),
    "wrong": (230, 159, 0),
    "again": (204, 121, 167),
    "nothing": (213, 94, 0),
    "missed": (86, 180, 233),
    "ignored": (150, 150, 150),
}
"""Okabe and Ito's colours, told apart by all eyes; style.css has the same."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An object of the truth or a region that was found; `box` is x, y, width, height in units of
    the picture, `tag` the object's category or the region's own tag."""

    side: Side
    number: int
    tag: str
    score: float | None
    outcome: str
    partner: int | None
    area: float
    box: tuple[float, float, float, float]
    label: Label | None

    @property
    def slug(self) -> str:
        """The outcome as an address has it."""
        return SLUGS[self.outcome]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's shapes in `width` × `height` units, the smallest last; regions over objects."""

    width: int
    height: int
    font_size: int
    shapes: tuple[Shape, ...]


def picture(
    size: tuple[int, int],
    longest: float,
    font_size: int,
    objects: Sequence[Row],
    regions: Sequence[Row],
    found: Sequence[Row],
    *,
    only_mistakes: bool = False,
) -> Picture:
    """The overlay of an image of `size` pixels, its longest side `longest` units.

    `objects` and `found` are what the truth's index has of the image, `regions` the data set's,
    all of them by number. Objects that were found have no label: their region has one, unless
    `only_mistakes` have labels.
    """
    scale = longest / max(*size, 1)
    units = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    of_number = {row["number"]: row for row in regions}
    of_truth: list[tuple[Side, Row, Row]] = [("truth", row, row) for row in objects]
    of_regions: list[tuple[Side, Row, Row]] = [
        ("found", row, of_number[row["number"]]) for row in found
    ]
    drawn = of_truth + of_regions
    drawn.sort(key=lambda each: -each[2]["area"])
    boxes = [shown_box(_region(place), scale, units) for _, _, place in drawn]
    named = [
        index
        for index, (side, row, _) in enumerate(drawn)
        if row["outcome"] not in (("found", "ignored") if side == "truth" or only_mistakes else ())
    ]
    placed = place_texts(
        [_text(*drawn[index]) for index in named],
        [boxes[index] for index in named],
        units,
        font_size,
    )
    labels = dict(zip(named, placed, strict=True))
    shapes = []
    for index, (side, row, place) in enumerate(drawn):
        x0, y0, x1, y1 = boxes[index]
        shapes.append(
            Shape(
                side=side,
                number=row["number"],
                tag=place["tag"],
                score=place["score"] if side == "found" else None,
                outcome=row["outcome"],
                partner=row["region"] if side == "truth" else row["object"],
                area=place["area"],
                box=(round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1)),
                label=labels.get(index),
            )
        )
    return Picture(*units, font_size, tuple(shapes))


def _text(side: Side, row: Row, place: Row) -> tuple[str, str]:
    if side == "found":
        return place["tag"], f"{place['score']:.2f}"
    return row["tag"], "missed" if row["outcome"] == "missed" else "truth"


def _region(row: Row) -> Region:
    box = (row["x0"], row["y0"], row["x1"], row["y1"])
    return Region(row["tag"], 1.0, box, row.get("mask") or "", int(row["area"]), 1.0, "masks")


def record_of_objects(record: PadRecord, objects: Sequence[Row]) -> PadRecord:
    """The image with the truth's objects in place of its regions, to draw their masks."""
    return PadRecord(
        image_id=record.image_id,
        uri=record.uri,
        width=record.width,
        height=record.height,
        caption=record.caption,
        status="ok",
        error=None,
        tags=(),
        labels=tuple(_region(row) for row in objects),
    )
