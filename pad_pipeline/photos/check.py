"""Whether a model with real weights sees what is plainly there, stage by stage.

A tagger must name what is in a photograph, a detector box it where it is asked for it by name, and
a segmenter find its pixels where it is given the box. No stage depends on another's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pad_pipeline import masks
from pad_pipeline.boxes import iou_matrix
from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.catalogue import role_of
from pad_pipeline.models.protocols import Detector, Segmenter, Tagger
from pad_pipeline.models.references import Role
from pad_pipeline.models.registry import load_detector, load_segmenter, load_tagger
from pad_pipeline.photos.facts import Photograph

BOX_THRESHOLD = 0.25
"""As in a run."""

SMALLEST_IOU = 0.5
"""Of a detector's box with the true one."""

MISSES = 1
"""Photographs in which a right model may be wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a model made of one photograph; `missed` is empty where it is right."""

    photograph: str
    missed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model's findings on all photographs that have facts for its role."""

    model: str
    role: Role
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether it was wrong in at most `MISSES` photographs, and right in one."""
        wrong = sum(bool(finding.missed) for finding in self.findings)
        return wrong <= MISSES and wrong < len(self.findings)


def check_model(name: str, photographs: Sequence[Photograph], runtime: Runtime) -> Verdict:
    """The model of that name, loaded and run on photographs.

    Raises `UserError` where there is no such model, it does not show its role, or no photograph has
    facts for it.
    """
    role = role_of(name)
    known = [photo for photo in photographs if (photo.tags if role == "tagger" else photo.things)]
    if not known:
        raise UserError(f"none of the photographs has facts for a {role}; add tags or things")
    if role == "tagger":
        missed = _missed_tags(load_tagger(name, runtime), known)
    elif role == "detector":
        missed = _missed_boxes(load_detector(name, runtime), known)
    else:
        missed = _missed_masks(load_segmenter(name, runtime), known)
    findings = [Finding(p.path.name, tuple(m)) for p, m in zip(known, missed, strict=True)]
    return Verdict(name, role, tuple(findings))


def _missed_tags(tagger: Tagger, photographs: Sequence[Photograph]) -> list[list[str]]:
    missed = []
    for photo in photographs:
        (tags,) = tagger.tag([photo.read()])
        found = {tag.tag for tag in tags}
        missed.append([" or ".join(group) for group in photo.tags if found.isdisjoint(group)])
    return missed


def _missed_boxes(detector: Detector, photographs: Sequence[Photograph]) -> list[list[str]]:
    missed = []
    for photo in photographs:
        names = list(dict.fromkeys(thing.tag for thing in photo.things))
        (boxes,) = detector.detect([photo.read()], [names])
        labels = np.array(boxes.labels)
        wrong = []
        for thing in photo.things:
            own = boxes.xyxy[(labels == thing.tag) & (boxes.scores > BOX_THRESHOLD)]
            true = np.array([thing.box], np.float32)
            if not len(own) or iou_matrix(own, true).max() < SMALLEST_IOU:
                wrong.append(f"box of {thing.tag}")
        missed.append(wrong)
    return missed


def _missed_masks(segmenter: Segmenter, photographs: Sequence[Photograph]) -> list[list[str]]:
    missed = []
    for photo in photographs:
        boxes = np.array([thing.box for thing in photo.things], np.float32)
        (found,) = segmenter.segment([photo.read()], [boxes])
        wrong = []
        for thing, mask in zip(photo.things, found, strict=True):
            bits = masks.decode(mask.counts, mask.height, mask.width)
            if not all(bits[y, x] for x, y in thing.inside) or any(
                bits[y, x] for x, y in thing.outside
            ):
                wrong.append(f"mask of {thing.tag}")
        missed.append(wrong)
    return missed
