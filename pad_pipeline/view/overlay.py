"""What lies over a picture: boxes, labels and mask layers, where the drawing code puts them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pad_pipeline.drawing.boxes import shown_box
from pad_pipeline.drawing.colours import distinct_colours
from pad_pipeline.drawing.fonts import font_size_for
from pad_pipeline.drawing.labels import Label, place_region_labels
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.marked import regions_of
from pad_pipeline.view.pictures import layer_scale
from pad_pipeline.view.queries import Row

SKETCH_SIDE = 640
"""Units of a sketch's longest side: it is shown about half as large."""
SKETCH_LETTERS = 22


@dataclass(frozen=True, slots=True)
class Shape:
    """One region: its number in the record, its box (x, y, width, height) and its label.

    Lengths are pixels of the overlay. `fill` and `rim` are the addresses of its mask's layers.
    """

    number: int
    region: Region
    box: tuple[float, float, float, float]
    label: Label
    fill: str
    rim: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """A picture's overlay of `width` × `height` units; the shapes of small regions come last.

    `colours` are the numbers of the tags' colours on this picture.
    """

    width: int
    height: int
    font_size: int
    colours: Mapping[str, int]
    shapes: tuple[Shape, ...]


def overlay(record: PadRecord, regions: Sequence[Region] | None = None) -> Overlay:
    """The overlay of a record, or of some of its regions."""
    scale = layer_scale(record)
    size = (max(1, round(record.width * scale)), max(1, round(record.height * scale)))
    chosen = list(record.labels if regions is None else regions)
    letters = font_size_for(size, len(chosen))
    order = sorted(range(len(chosen)), key=lambda number: -chosen[number].area)
    ordered = [chosen[number] for number in order]
    labels = place_region_labels(ordered, scale, size, letters)
    shapes = []
    for number, region, label in zip(order, ordered, labels, strict=True):
        x0, y0, x1, y1 = shown_box(region, scale, size)
        box = (round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1))
        fill, rim = (of_image(record.image_id, f"layer/{number}/{p}") for p in ("fill", "rim"))
        shapes.append(Shape(number, region, box, label, fill, rim))
    colours = distinct_colours(region.tag for region in record.labels)
    return Overlay(*size, letters, colours, tuple(shapes))


@dataclass(frozen=True, slots=True)
class Outline:
    """A box in a small picture without masks; `marked` ones have a label."""

    tag: str
    score: float
    box: tuple[float, float, float, float]
    marked: bool
    label: Label | None


@dataclass(frozen=True, slots=True)
class Sketch:
    """The boxes of an image of which only the index is read."""

    width: int
    height: int
    font_size: int
    colours: Mapping[str, int]
    outlines: tuple[Outline, ...]


def sketch(width: int, height: int, rows: Sequence[Row], marked: Collection[int]) -> Sketch:
    """The boxes of rows of the index over a picture of `width` × `height` pixels."""
    scale = SKETCH_SIDE / max(width, height, 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    regions = regions_of(rows)
    letters = SKETCH_LETTERS
    named = [region for row, region in zip(rows, regions, strict=True) if row["number"] in marked]
    labels = iter(place_region_labels(named, scale, size, letters))
    outlines = []
    for row, region in zip(rows, regions, strict=True):
        x0, y0, x1, y1 = shown_box(region, scale, size)
        box = (round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1))
        is_marked = row["number"] in marked
        label = next(labels) if is_marked else None
        outlines.append(Outline(region.tag, region.score, box, is_marked, label))
    colours = distinct_colours(region.tag for region in regions)
    outlines.sort(key=lambda outline: outline.marked)
    return Sketch(*size, letters, colours, tuple(outlines))
