"""The parameters of a request, in its query or in the fields of its form."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pad_pipeline.dataset.selection import Selection
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.words import as_lines, split_words
from pad_pipeline.errors import UserError
from pad_pipeline.given import read_regions
from pad_pipeline.records import PadRecord
from pad_pipeline.serve.api_error import ApiError

_LARGEST = 2**53  # whole numbers that JSON readers keep exactly

Options = TypeVar("Options", bound="Thresholds")


class Thresholds(BaseModel):
    """Which regions the response holds: chosen after the models ran, for this request only.

    To keep boxes above a higher threshold after suppression is what a run with that threshold
    does: a box of lower score never suppresses a better one. The service's own threshold cannot be
    lowered by a request, since the models' boxes below it are gone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    box_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Only boxes of a score above this; not below the service's own threshold.",
    )
    min_score: float = Field(0.0, ge=0, le=1, description="Lowest score of the detector.")
    min_area: int = Field(0, ge=0, le=_LARGEST, description="Smallest mask, in pixels.")
    max_area: int | None = Field(None, ge=0, le=_LARGEST, description="Largest mask, in pixels.")
    min_predicted_iou: float = Field(
        0.0, ge=0, le=1, description="Lowest quality that the segmenter expects of its mask."
    )
    tags: list[str] = Field([], max_length=100, description="Only these tags; all when empty.")
    exclude_tags: list[str] = Field([], max_length=100, description="None of these tags.")

    def select(self, record: PadRecord) -> PadRecord:
        """The record with the regions and tags that pass."""
        if self.box_threshold is not None and record.labels:
            least = np.float32(self.box_threshold)  # the precision of scores
            labels = tuple(region for region in record.labels if region.score > least)
            record = replace(record, labels=labels, status="ok" if labels else "empty")
        return self._selection().apply(record)

    def check(self, box_threshold: float) -> None:
        """Raise `ApiError` (422) where they cannot be met by a service of that box threshold."""
        if self.box_threshold is not None and self.box_threshold < box_threshold:
            raise ApiError(
                422,
                "bad_parameter",
                f"box_threshold {self.box_threshold:g} is below the service's own of "
                f"{box_threshold:g} (detect.box_threshold)",
            )
        try:
            self._selection()
        except UserError as error:
            raise ApiError(422, "bad_parameter", str(error)) from error

    def _selection(self) -> Selection:
        return Selection(
            min_score=self.min_score,
            min_area=self.min_area,
            max_area=self.max_area,
            min_predicted_iou=self.min_predicted_iou,
            tags=tuple(self.tags),
            exclude_tags=tuple(self.exclude_tags),
        )


_CLASSES = Field(
    [],
    max_length=500,
    description="Tags in place of the tagger's: one a value, or several with commas.",
)
_MAX_BOXES = 60_000


def _read_boxes(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(422, "bad_parameter", f"boxes: not valid JSON ({error})") from error


def _read_classes(values: Sequence[str]) -> tuple[str, ...] | None:
    return split_words("classes", as_lines(",".join(values).split(","))) if values else None


class AnnotateOptions(Thresholds):
    """The parameters of a request with one image."""

    image_id: str | None = Field(
        None, max_length=1000, description="Name of the image in its record; else its file name."
    )
    caption: str | None = Field(None, max_length=20_000, description="The record's caption.")
    classes: list[str] = _CLASSES
    boxes: str | None = Field(
        None,
        max_length=_MAX_BOXES,
        description="Boxes in place of the detector's, as JSON: a list of [x0, y0, x1, y1] in "
        'pixels, or of {"bbox": [x0, y0, x1, y1], "label": "dog"}.',
    )
    render: bool = Field(False, description="Return a picture (PNG) instead of the record.")

    def give(self, sample: Sample) -> Sample:
        """The sample with the request's tags and boxes; raises `ApiError` (422)."""
        return _give(sample, self.classes, _read_boxes(self.boxes), "boxes")


class BatchOptions(Thresholds):
    """The parameters of a request with several images, for all of them."""

    caption: list[str] = Field(
        [], max_length=200, description="The records' captions, one for each image in order."
    )
    classes: list[str] = _CLASSES
    boxes: str | None = Field(
        None,
        max_length=_MAX_BOXES,
        description="Boxes in place of the detector's, as JSON: for each image in order a list as "
        "of /annotate, or null.",
    )

    def give(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with the request's tags and boxes; raises `ApiError` (422)."""
        boxes = _read_boxes(self.boxes)
        if boxes is None:
            boxes = [None] * len(samples)
        if not isinstance(boxes, list) or len(boxes) != len(samples):
            raise ApiError(
                422,
                "bad_parameter",
                f"boxes: expected a list with a list of boxes, or null, for each of the "
                f"{len(samples)} images",
            )
        return [
            _give(sample, self.classes, own, f"boxes: image {number}")
            for number, (sample, own) in enumerate(zip(samples, boxes, strict=True), start=1)
        ]


def _give(sample: Sample, classes: Sequence[str], boxes: Any, where: str) -> Sample:
    try:
        regions = None if boxes is None else read_regions(boxes, where)
        return replace(sample, classes=_read_classes(classes), regions=regions)
    except UserError as error:
        raise ApiError(422, "bad_parameter", str(error)) from error


def merge_form_fields(options: Options, fields: Sequence[tuple[str, str]]) -> Options:
    """The options of the query, overridden by the fields of a form; raises `ApiError` (422)."""
    texts_by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in fields:
        texts_by_name[name].append(value)
    lists = {name for name, value in type(options).model_fields.items() if _is_list(value)}
    values: dict[str, Any] = options.model_dump(exclude_unset=True)
    for name, texts in texts_by_name.items():
        values[name] = texts if name in lists else texts[-1]
    try:
        return type(options).model_validate(values)
    except ValidationError as error:
        raise to_api_error(error.errors()) from error


def to_api_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """What is wrong with the parameters, as one sentence."""
    problems = []
    for error in errors:
        place = [str(part) for part in error["loc"] if part not in ("query", "body")]
        if error["type"] == "extra_forbidden":
            problems.append(f"there is no parameter {'.'.join(place)!r}")
        else:
            problems.append(f"{'.'.join(place)}: {error['msg']}")
    return ApiError(422, "bad_parameter", "; ".join(problems[:5]))


def _is_list(field: Any) -> bool:
    return getattr(field.annotation, "__origin__", None) is list
