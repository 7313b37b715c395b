"""Boxes and masks of a data set against COCO's annotations: AP, AP50, AR, per tag, with curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pad_pipeline import storage
from pad_pipeline.dataset.chooser import LEFT_OUT
from pad_pipeline.errors import plural
from pad_pipeline.evaluate.comparison import Comparison, compare
from pad_pipeline.evaluate.detection_scores import detection_scores
from pad_pipeline.evaluate.evaluation import COMPARISON
from pad_pipeline.evaluate.figure_style import png
from pad_pipeline.evaluate.pr_curves import pr_curves_figure
from pad_pipeline.evaluate.scoring import bootstrap
from pad_pipeline.evaluate.scoring.scores import Scores
from pad_pipeline.ground_truth.coco import GroundTruth, read_coco
from pad_pipeline.ground_truth.comparison import Comparison as TruthComparison
from pad_pipeline.ground_truth.comparison import compare_with_truth
from pad_pipeline.ground_truth.curves import Curves
from pad_pipeline.ground_truth.entries import Kind
from pad_pipeline.ground_truth.matching import Matcher
from pad_pipeline.review.choice import ReviewChoice, mention_unused, review_facts

_PREFIXES: dict[Kind, str] = {"boxes": "", "masks": "mask_"}
"""Of the figures' names."""
_NUM_NAMED = 5


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """The figures of a data set's detections, and where they were written."""

    summary: Mapping[str, Any]
    output: str
    comparison: Comparison | None = None

    def lines(self) -> list[str]:
        """The report as a table."""
        found = self.summary
        lines = [
            f"{found['num_images']:,} images, {found['num_objects']:,} objects, "
            f"{found['num_regions']:,} regions"
        ]
        for name, value in found["metrics"].items():
            interval = found["intervals"][name]
            between = f"   [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
            lines.append(f"{name:12}{value:8.4f}{between}")
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
        if found["num_failed"]:
            failed = plural(found["num_failed"], "image")
            lines.append(f"{failed} that failed counted as without regions")
        if found["num_images_left_out"]:
            number = plural(found["num_images_left_out"], "image")
            lines.append(f"{number} {LEFT_OUT} in the review left out, objects and regions")
        if self.comparison is not None:
            lines += ["", *self.comparison.lines()]
        lines.append(f"wrote {storage.join(self.output, 'summary.json')} and pr_curves.png")
        return lines


@dataclass(frozen=True, slots=True)
class _Measured:
    """A data set matched with the truth, and its figures by boxes and by masks."""

    compared: TruthComparison
    curves: dict[Kind, Curves]
    scores: Scores


def evaluate_detections(
    annotations: str,
    truth: str,
    output: str,
    match: str | None = None,
    against: str | None = None,
    review: ReviewChoice | None = None,
) -> DetectionReport:
    """Compare a data set of PAD records with COCO's instances JSON at `truth`.

    Images belong together by the file's name or its path; tags and categories by their names in
    lower case, or by `match`, a JSON object of tag -> category. Failed images have no regions.
    `review` says which marks on the data set count; images that it leaves out are left out of the
    truth and of the other data set too, which is taken as annotated otherwise.
    Writes summary.json and pr_curves.png into `output`; with `against`, another data set of the
    same images, also comparison.json. Intervals are those of drawing the truth's images again.
    Raises `UserError` where the truth has images that a data set lacks, and where no tag names a
    category.
    """
    mention_unused(annotations, review)
    measured = _measure(annotations, read_coco(truth), match, review)
    compared, curves = measured.compared, measured.curves
    other = None if against is None else _measure(against, compared.truth, match)
    names, num_objects = compared.truth.names, compared.num_objects
    summary = {
        "kind": "detections",
        "annotations": storage.absolute(annotations),
        "truth": storage.absolute(truth),
        "num_images": len(compared.place_of),
        "num_images_without_truth": compared.dataset.num_rows
        - len(compared.place_of)
        - compared.num_left_out,
        "num_failed": compared.num_failed,
        "num_images_left_out": compared.num_left_out,
        "review": review_facts(review),
        "num_objects": num_objects.total(),
        "num_regions": compared.num_regions,
        "metrics": _metrics(curves),
        "intervals": bootstrap.intervals(measured.scores, len(compared.truth.images)),
        "confidence": bootstrap.CONFIDENCE,
        "num_resamplings": bootstrap.NUM_RESAMPLINGS,
        "per_tag": {
            name: _figures_of(number, curves, num_objects[number])
            for number, name in sorted(names.items())
            if num_objects[number]
        },
        "tags_without_category": dict(compared.left_out.most_common()),
        "categories_without_tag": sorted(
            name
            for number, name in names.items()
            if num_objects[number] and number not in compared.category_of.values()
        ),
    }
    folder = storage.absolute(output)
    storage.check_writable(folder)
    storage.write_json(storage.join(folder, "summary.json"), summary)
    at_half = {
        name: curves["boxes"].precisions(number)
        for number, name in names.items()
        if num_objects[number]
    }
    storage.write_atomic(storage.join(folder, "pr_curves.png"), png(pr_curves_figure(at_half)))
    comparison = None
    if other is not None and against is not None:
        shown = [{"image": image.file_name} for image in compared.truth.images]
        comparison = compare(
            shown, measured.scores, other.scores, storage.absolute(against), "images"
        )
        storage.write_json(storage.join(folder, COMPARISON), comparison.to_json())
    return DetectionReport(summary, folder, comparison)


def _measure(
    annotations: str, truth: GroundTruth, match: str | None, review: ReviewChoice | None = None
) -> _Measured:
    compared = compare_with_truth(annotations, truth, match, review)
    matchers = [Matcher(kind, compared.category_of) for kind in compared.kinds]
    for batch in compared.batches():
        for matcher in matchers:
            matcher.add(batch)
    categories, num_images = list(compared.truth.names), len(compared.truth.images)
    curves: dict[Kind, Curves] = {matcher.kind: matcher.curves(categories) for matcher in matchers}
    ranked = {_PREFIXES[each.kind]: each.ranked(categories, num_images) for each in matchers}
    return _Measured(compared, curves, detection_scores(ranked, _metrics(curves)))


def _metrics(curves: Mapping[Kind, Curves]) -> dict[str, float]:
    return {
        _PREFIXES[kind] + name: value
        for kind, found in curves.items()
        for name, value in found.summary().items()
    }


def _figures_of(number: int, curves: Mapping[Kind, Curves], num_objects: int) -> dict[str, Any]:
    row: dict[str, Any] = {"num_objects": num_objects, "mask_AP": float("nan")}
    for kind, found in curves.items():
        figures = found.of(number)
        row |= {_PREFIXES[kind] + name: figures[name] for name in ("AP", "AP50", "AR")}
    return row


def _left_out(tags: Mapping[str, int]) -> str:
    names = ", ".join(f"{tag} ({number:,})" for tag, number in list(tags.items())[:_NUM_NAMED])
    return (
        f"{plural(sum(tags.values()), 'region')} of {plural(len(tags), 'tag')} that name no "
        f"category are left out: {names}; a map of names can say which belong together"
    )
