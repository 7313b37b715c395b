"""Photographs and the plain facts about them: tags, boxes, and points on a thing and off it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.images import ImageError, decode_image

SHIPPED = Path(__file__).parent / "photographs.json"
"""Facts about photographs that come with scikit-image."""

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Thing:
    """Something in a photograph, by the name under which a detector is asked for it.

    `box` is x0, y0, x1, y1 in pixels; a right mask holds all points `inside` (x, y) and none
    `outside`.
    """

    tag: str
    box: tuple[float, float, float, float]
    inside: tuple[Point, ...] = ()
    outside: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph: of each group of `tags`, a tagger must find at least one."""

    path: Path
    tags: tuple[tuple[str, ...], ...]
    things: tuple[Thing, ...]

    def read(self) -> np.ndarray:
        """The pixels, (height, width, 3) uint8 RGB; `UserError` where there are none."""
        try:
            return decode_image(self.path.read_bytes())
        except (OSError, ImageError) as error:
            raise UserError(f"the photograph {self.path} cannot be read: {error}") from error


def read_photographs(facts: str | Path | None = None) -> list[Photograph]:
    """The photographs of a file of facts, whose paths are relative to it; without it, the shipped.

    Raises `UserError` where the file is not of that form, or scikit-image is not installed.
    """
    path = SHIPPED if facts is None else Path(facts)
    folder = photographs_folder() if facts is None else path.parent
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [_photograph(entry, folder) for entry in entries]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no list of photographs with facts ({error!r}); expected a JSON list of "
            '{"file", "tags": [["cat", "tabby"]], "things": [{"tag", "box", "inside", "outside"}]}'
        ) from error


def photographs_folder() -> Path:
    """Where scikit-image keeps its photographs; `UserError` where it is not installed."""
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise UserError(
            "the photographs come with scikit-image, which is not installed: "
            "`pip install 'pad-pipeline[photos]'`, or give facts about your own (",
            Setting("facts", "FILE"),
            ")",
        )
    return Path(found.origin).parent / "data"


def _photograph(entry: dict[str, Any], folder: Path) -> Photograph:
    things = tuple(
        Thing(
            str(thing["tag"]),
            _four(thing["box"]),
            _points(thing.get("inside", ())),
            _points(thing.get("outside", ())),
        )
        for thing in entry.get("things", ())
    )
    groups = tuple(tuple(map(str, group)) for group in entry.get("tags", ()))
    return Photograph(folder / entry["file"], groups, things)


def _four(values: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def _points(values: Sequence[Sequence[int]]) -> tuple[Point, ...]:
    return tuple((int(x), int(y)) for x, y in values)
