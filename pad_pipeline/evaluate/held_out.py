"""Which images of a data set a run has not trained on, where that can be known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.errors import plural
from pad_pipeline.review.choice import ReviewChoice, review_facts
from pad_pipeline.train.data.sample_file import TrainingSamples, write_samples
from pad_pipeline.train.data.sample_sources import as_sources, source_digest
from pad_pipeline.train.data.sampler import make_sampler
from pad_pipeline.train.run.folder import RUN_FILE, Run, config_of, read_run


@dataclass(frozen=True, slots=True)
class ChosenSamples:
    """The samples that a run is measured on: their places, and what the run knows of them."""

    samples: TrainingSamples
    places: NDArray[np.int64]
    held_out: bool | None
    """Whether the run has held them out of its training; None where that is not known."""
    seen: str
    """The same in words."""


def choose_samples(
    run: Run,
    annotations: str,
    images: str | None,
    number: int,
    path: Path,
    *,
    held_out: bool,
    review: ReviewChoice | None = None,
) -> ChosenSamples:
    """At most `number` samples of the data set `annotations`, written to `path`.

    With `held_out` those that the run (or the run of stage 1 whose projector it took) held out, if
    it trained on that data set as it is now, by the same marks; else the first ones. `review` says
    which marks count.
    """
    if review is not None and review.review is not None:
        review = replace(review, review=storage.absolute(review.review))
    trained = _trained_on(run, annotations) if held_out else None
    if trained is not None and _is_as_it_was(trained, review):
        sources = as_sources(trained.facts["source"])
        _, left_out = write_samples(
            sources,
            images or trained.facts["images"],
            trained.facts["stage"],
            path,
            review=review,
        )
        left_out.report()
        samples = TrainingSamples(path)
        validation = make_sampler(config_of(trained), samples.lengths).validation
        places = validation[samples.sources[validation] == sources.index(annotations)]
        if len(places):
            seen = f"none: {plural(len(places), 'image')} that the training held out"
            return ChosenSamples(samples, places[:number], True, seen)
    _, left_out = write_samples(annotations, images, "pretrain", path, review=review)
    left_out.report()
    samples = TrainingSamples(path)
    places = np.arange(min(number, len(samples)))
    if not held_out:
        return ChosenSamples(samples, places, None, "not asked: the first images of the data set")
    if trained is None:
        seen = "not known: the run was trained on other data, which may hold the same images"
        return ChosenSamples(samples, places, None, seen)
    if not _is_as_it_was(trained, review):
        seen = "not known: the data set or its marks are not as they were when the run was begun"
        return ChosenSamples(samples, places, None, seen)
    return ChosenSamples(samples, places, False, "all: the run held no image of these out")


def _trained_on(run: Run, annotations: str) -> Run | None:
    """The run, or the one whose projector it took, if its samples are those of `annotations`."""
    if annotations in as_sources(run.facts["source"]):
        return run
    projector = run.facts["projector"]
    if projector is None or not storage.exists(storage.join(projector, RUN_FILE)):
        return None
    return _trained_on(read_run(projector), annotations)


def _is_as_it_was(run: Run, review: ReviewChoice | None) -> bool:
    facts = run.facts
    if facts.get("review") != review_facts(review):
        return False
    if not all(map(storage.exists, as_sources(facts["source"]))):
        return False
    source = facts["source"] if isinstance(facts["source"], str) else tuple(facts["source"])
    return source_digest(source, facts["images"], review) == facts["source_digest"]
