"""What was given for a sample in place of what the models would find: its tags, boxes and masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pad_pipeline import masks as rle
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.protocols import Boxes, Mask
from pad_pipeline.records import Tag, TagOrigin, tags_of_boxes

if TYPE_CHECKING:
    from pad_pipeline.models.phrases.finder import PhraseFinder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenTags:
    """Where the tags of a sample are from.

    `origins` are those of the config, in the order in which the tags stand; `classes` the words of
    the origin of this name. Classes or boxes that are given with a sample alone come before
    them: the tagger is not asked then, except where `is_explicit` says that the user named it.
    `phrases` finds what captions name, for the origin `captions`.
    """

    origins: tuple[TagOrigin, ...] = ("model",)
    classes: tuple[str, ...] = ()
    is_explicit: bool = False
    phrases: PhraseFinder | None = None

    def of(self, sample: Sample) -> tuple[TagOrigin, ...]:
        """The origins of one sample's tags."""
        if sample.classes is not None:
            return ("classes",) if sample.regions is None else ("classes", "boxes")
        if sample.regions is None:
            return self.origins
        named = self.origins if self.is_explicit else ()
        return (*(name for name in named if name != "boxes"), "boxes")

    def needs_model(self, sample: Sample) -> bool:
        """Whether the tagger is to see the sample."""
        return "model" in self.of(sample)

    def complete(
        self, samples: Sequence[Sample], by_model: Sequence[tuple[Tag, ...]]
    ) -> list[tuple[Tag, ...]]:
        """All tags of each sample; `by_model` are those that the tagger found."""
        in_captions = self._in_captions(samples)
        return [
            tuple(tag for name in self.of(sample) for tag in self._tags(name, sample, found, named))
            for sample, found, named in zip(samples, by_model, in_captions, strict=True)
        ]

    def _in_captions(self, samples: Sequence[Sample]) -> list[list[Tag]]:
        """The phrases of all captions of each sample whose tags are from them."""
        wanted = ["captions" in self.of(sample) for sample in samples]
        if not any(wanted) or self.phrases is None:
            return [[] for _ in samples]
        texts = [
            s.all_captions if needed else () for s, needed in zip(samples, wanted, strict=True)
        ]
        found = iter(self.phrases.find([text for of_image in texts for text in of_image]))
        return [
            [
                Tag(phrase.text, 1.0, "captions", number, phrase.start, phrase.end)
                for number, phrases in enumerate(islice(found, len(of_image)))
                for phrase in phrases
            ]
            for of_image in texts
        ]

    def _tags(
        self, origin: TagOrigin, sample: Sample, found: Sequence[Tag], named: Sequence[Tag]
    ) -> Sequence[Tag]:
        match origin:
            case "model":
                return found
            case "captions":
                return named
            case "classes":
                words = self.classes if sample.classes is None else sample.classes
            case "column":
                words = sample.column_tags
            case "boxes":
                return tags_of_boxes((one.tag, one.score) for one in sample.regions or ())
            case _:
                raise ValueError(f"no tags are from {origin!r}")
        return [Tag(word, 1.0, origin) for word in words]


ONLY_MODEL = GivenTags()


def check_given(config: AnnotateConfig | None, sample: Sample) -> None:
    """Raise `UserError` for given boxes with nothing in them, and where a sample lacks what the
    config does not let the models find; without a config these find everything."""
    if sample.regions is not None:
        for number, region in enumerate(sample.regions, 1):
            if region.problem:
                raise UserError(f"image {sample.image_id}: box {number} {region.problem}")
        if config is not None and config.draws_masks:
            raise UserError(
                f"boxes are given for {sample.image_id}, and no segmenter is loaded that finds "
                "their masks; leave them out, or use ",
                Setting("segment.from_", "model"),
            )
        return
    if config is None:
        return
    if config.takes_boxes:
        raise UserError(f"no boxes are given for {sample.image_id}, and no detector is loaded")
    if sample.classes is None and "classes" in config.tag_origins and config.classes is None:
        raise UserError(f"no classes are given for {sample.image_id}")


def place_regions(sample: Sample, *, masks: bool) -> Boxes:
    """The given regions as boxes in pixels of the sample's image, in their order.

    The sample's `regions` become those that are left: a box that lies outside the image, or whose
    mask does not fit, is named in the log. Without `masks` they lose their masks.
    """
    placed = []
    for number, region in enumerate(sample.regions or (), 1):
        if not masks:
            region = replace(region, polygons=(), rle_mask=None)
        try:
            placed.append(region.placed(sample.width, sample.height))
        except UserError as error:
            # One line for all: what repeats is counted.
            logger.warning(
                "given boxes are left out: box %d of %s %s", number, sample.image_id, error
            )
    sample.regions = tuple(placed)
    return Boxes(
        xyxy=np.array([one.bbox for one in placed], np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in placed], np.float32),
        labels=tuple(one.tag for one in placed),
    )


def given_masks(sample: Sample) -> tuple[Mask, ...]:
    """The masks of the given regions; nobody has estimated their quality, which counts as 1."""
    height, width = sample.height, sample.width
    return tuple(
        Mask(region.rle_mask, height, width, rle.area(region.rle_mask, height, width), 1.0)
        for region in sample.regions or ()
        if region.rle_mask is not None
    )
