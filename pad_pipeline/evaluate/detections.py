"""Boxes and masks of a data set against COCO's annotations: AP, AP50, AR, per tag, with curves."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pad_pipeline import storage
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.errors import Setting, UserError, plural
from pad_pipeline.evaluate.figure_style import png
from pad_pipeline.evaluate.pr_curves import RECALLS, pr_curves_figure
from pad_pipeline.records import PadRecord

_KINDS: dict[str, Literal["bbox", "segm"]] = {"": "bbox", "mask_": "segm"}
_FIGURES = {"AP": 0, "AP50": 1, "AP75": 2, "AR": 8}
"""Places in COCO's twelve figures; AR is that of at most 100 detections an image."""
_NUM_NAMED = 5


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """The figures of a data set's detections, and where they were written."""

    summary: Mapping[str, Any]
    output: str

    def lines(self) -> list[str]:
        """The report as a table."""
        found = self.summary
        lines = [
            f"{found['num_images']:,} images, {found['num_objects']:,} objects, "
            f"{found['num_regions']:,} regions"
        ]
        lines += [f"{name:12}{value:8.4f}" for name, value in found["metrics"].items()]
        lines.append(f"{'tag':20}{'objects':>9}{'AP':>8}{'AP50':>8}{'AR':>8}{'mask AP':>9}")
        for name, row in found["per_tag"].items():
            numbers = "".join(f"{row[key]:8.3f}" for key in ("AP", "AP50", "AR"))
            lines.append(f"{name:20}{row['num_objects']:9,}{numbers}{row['mask_AP']:9.3f}")
        if found["tags_without_category"]:
            lines.append(_left_out(found["tags_without_category"]))
        if found["categories_without_tag"]:
            names = ", ".join(found["categories_without_tag"][:_NUM_NAMED])
            number = plural(len(found["categories_without_tag"]), "category", "categories")
            lines.append(f"{number} that no tag of the data set names, such as {names}")
        lines.append(f"wrote {storage.join(self.output, 'summary.json')} and pr_curves.png")
        return lines


def evaluate_detections(
    annotations: str, truth: str, output: str, match: str | None = None
) -> DetectionReport:
    """Compare a data set of PAD records with COCO's instances JSON at `truth`.

    Images belong together by the file's name or its path; tags and categories by their names in
    lower case, or by `match`, a JSON object of tag -> category. Writes summary.json and
    pr_curves.png into `output`. Raises `UserError` where the truth has images that the data set
    lacks, and where no tag names a category.
    """
    whole = _read_truth(truth)
    dataset = open_dataset(storage.absolute(annotations))
    records = [record for record in iter_records(dataset) if record.status != "failed"]
    number_of = _numbers_of_images(records, whole["images"], annotations, truth)
    category_of = _categories_of_tags(records, whole["categories"], match)
    guesses, left_out = _guesses(records, number_of, category_of)
    evaluations = {
        prefix: _evaluate(whole, guesses, kind)
        for prefix, kind in _KINDS.items()
        if kind == "bbox" or all("segmentation" in each for each in whole["annotations"])
    }
    names = {each["id"]: each["name"] for each in whole["categories"]}
    num_objects = Counter(each["category_id"] for each in whole["annotations"])
    summary = {
        "kind": "detections",
        "annotations": storage.absolute(annotations),
        "truth": storage.absolute(truth),
        "num_images": len(number_of),
        "num_images_without_truth": len(records) - len(number_of),
        "num_objects": len(whole["annotations"]),
        "num_regions": len(guesses),
        "metrics": {
            prefix + name: float(evaluation.stats[place])
            for prefix, evaluation in evaluations.items()
            for name, place in _FIGURES.items()
        },
        "per_tag": _per_tag(evaluations, names, num_objects),
        "tags_without_category": dict(left_out.most_common()),
        "categories_without_tag": sorted(
            name
            for number, name in names.items()
            if num_objects[number] and number not in category_of.values()
        ),
    }
    folder = storage.absolute(output)
    storage.check_writable(folder)
    storage.write_json(storage.join(folder, "summary.json"), summary)
    curves = _curves(evaluations[""], names, num_objects)
    storage.write_atomic(storage.join(folder, "pr_curves.png"), png(pr_curves_figure(curves)))
    return DetectionReport(summary, folder)


def _read_truth(truth: str) -> dict[str, Any]:
    try:
        whole = json.loads(storage.read_bytes(truth))
        ids = [each["id"] for each in whole["annotations"]]
        assert all(isinstance(each["bbox"], list) for each in whole["annotations"])
        assert whole["images"]
        assert whole["categories"]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"{truth} should be COCO's instances JSON with images, annotations and categories "
            f"({type(error).__name__}: {error})"
        ) from error
    if 0 in ids:  # pycocotools takes the id 0 for no match
        for number, each in enumerate(whole["annotations"], 1):
            each["id"] = number
    for each in whole["annotations"]:
        each.setdefault("iscrowd", 0)
        each.setdefault("area", each["bbox"][2] * each["bbox"][3])
    return whole


def _numbers_of_images(
    records: Sequence[PadRecord], images: Sequence[Mapping[str, Any]], annotations: str, truth: str
) -> dict[str, int]:
    """Id of a record -> number of its image in the truth."""
    by_path = {record.image_id: record.image_id for record in records}
    by_name: dict[str, list[str]] = {}
    for record in records:
        by_name.setdefault(PurePosixPath(record.image_id).name, []).append(record.image_id)
    found, missing = {}, []
    for image in images:
        path = str(image["file_name"])
        alike = by_name.get(PurePosixPath(path).name, [])
        image_id = by_path.get(path) or (alike[0] if len(alike) == 1 else None)
        if image_id is None:
            missing.append(path)
        else:
            found[image_id] = image["id"]
    if missing:
        raise UserError(
            f"{plural(len(missing), 'image')} of {len(images):,} in {truth} not in {annotations}, "
            f"such as {missing[0]}; annotate them, or give the truth of what was annotated alone"
        )
    return found


def _categories_of_tags(
    records: Sequence[PadRecord], categories: Sequence[Mapping[str, Any]], match: str | None
) -> dict[str, int]:
    """Tag -> number of the category that it names."""
    numbers = {str(each["name"]).lower(): each["id"] for each in categories}
    tags = {region.tag for record in records for region in record.labels}
    found = {tag: numbers[tag.lower()] for tag in tags if tag.lower() in numbers}
    if match is not None:
        named = json.loads(storage.read_bytes(match))
        if not isinstance(named, dict):
            raise UserError(Setting("match"), ' should be a JSON object {"tag": "category"}')
        for tag, name in named.items():
            if str(name).lower() not in numbers:
                raise UserError(f"{match} names the category {name!r}, which the truth has not")
            found[tag] = numbers[str(name).lower()]
    if not tags.intersection(found):
        raise UserError(
            f"no tag names a category: the tags are {_some(tags)}, the categories {_some(numbers)};"
            " say which belong together with ",
            Setting("match"),
        )
    return found


def _guesses(
    records: Sequence[PadRecord], number_of: Mapping[str, int], category_of: Mapping[str, int]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """(regions as COCO's results, how many regions of which tags name no category)."""
    guesses: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for record in records:
        for region in record.labels if record.image_id in number_of else ():
            if region.tag not in category_of:
                left_out[region.tag] += 1
                continue
            x0, y0, x1, y1 = region.bbox
            guesses.append(
                {
                    "id": len(guesses) + 1,
                    "image_id": number_of[record.image_id],
                    "category_id": category_of[region.tag],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": region.area,
                    "iscrowd": 0,
                    "score": region.score,
                    "segmentation": {
                        "size": [record.height, record.width],
                        "counts": region.rle_mask,
                    },
                }
            )
    return guesses, left_out


def _evaluate(
    whole: dict[str, Any], guesses: list[dict[str, Any]], kind: Literal["bbox", "segm"]
) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = cast(Any, whole)
        found.dataset = cast(Any, {**whole, "annotations": guesses})
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _per_tag(
    evaluations: Mapping[str, COCOeval], names: Mapping[int, str], num_objects: Mapping[int, int]
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for place, number in enumerate(evaluations[""].params.catIds):
        if not num_objects[number]:
            continue
        row: dict[str, Any] = {"num_objects": num_objects[number], "mask_AP": float("nan")}
        for prefix, evaluation in evaluations.items():
            # precision: IoU, recall, category, area, detections; recall without the second
            precision = evaluation.eval["precision"][:, :, place, 0, -1]
            row[f"{prefix}AP"] = float(precision.mean())
            row[f"{prefix}AP50"] = float(precision[0].mean())
            row[f"{prefix}AR"] = float(evaluation.eval["recall"][:, place, 0, -1].mean())
        rows[names[number]] = row
    return rows


def _curves(
    evaluation: COCOeval, names: Mapping[int, str], num_objects: Mapping[int, int]
) -> dict[str, NDArray[np.float64]]:
    """Of each category the precision at `RECALLS`, boxes at an IoU of .5."""
    assert len(evaluation.params.recThrs) == len(RECALLS)
    return {
        names[number]: evaluation.eval["precision"][0, :, place, 0, -1]
        for place, number in enumerate(evaluation.params.catIds)
        if num_objects[number]
    }


def _left_out(tags: Mapping[str, int]) -> str:
    names = ", ".join(f"{tag} ({number:,})" for tag, number in list(tags.items())[:_NUM_NAMED])
    return (
        f"{plural(sum(tags.values()), 'region')} of {plural(len(tags), 'tag')} that name no "
        f"category are left out: {names}; a map of names can say which belong together"
    )


def _some(names: Any) -> str:
    return ", ".join(sorted(names)[:_NUM_NAMED]) or "none"
