"""A run's folder: what is in it, and whether a command may resume it.

RUN/run.json            config, data, models; "state" becomes "finished" at the very end
RUN/_samples.arrow      the samples, while the run is not finished
RUN/metrics.jsonl       one line per step
RUN/checkpoints/        the last and the best
RUN/mm_projector.safetensors, RUN/projector.json, RUN/llm/    what was trained, at the end
"""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pad_pipeline import __version__, storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.review.choice import ReviewChoice, mention_unused, review_facts
from pad_pipeline.train.choices import TrainingStage, is_vlsa
from pad_pipeline.train.data.left_out import LeftOutSamples
from pad_pipeline.train.data.sample_file import write_samples
from pad_pipeline.train.data.sample_sources import as_sources, is_list, source_digest
from pad_pipeline.train.run.config import TrainConfig, identity
from pad_pipeline.train.vlsa.config import VlsaConfig

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
SAMPLES = "_samples.arrow"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its URL and the content of its `run.json`."""

    url: str
    facts: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self.facts["state"] == "finished"

    @property
    def samples_url(self) -> str:
        """Where its samples lie."""
        return storage.join(self.url, SAMPLES)


def open_run(
    url: str,
    stage: TrainingStage,
    config: TrainConfig,
    source: str | Sequence[str],
    images: str | None,
    projector: str | None,
    regions: str | None = None,
    init_from: str | None = None,
    review: ReviewChoice | None = None,
) -> Run:
    """Begin a run at `url`, or open the one that is there to resume it.

    `source` may be several, of which `config.weights` are the parts. `regions` is a data set whose
    regions the images of stage 2 have, `init_from` a run whose trained weights this one begins
    with, `review` says which marks on the data sets count. Raises `UserError` where that one has
    another config or other data, or where nothing in `source` can be trained on.
    """
    storage.check_writable(url)
    check_weights(config, source)
    check_review(review, source, regions)
    wanted = {
        "stage": stage,
        "config": json.loads(json.dumps(identity(config))),
        "source": source if isinstance(source, str) else list(source),
        "images": images,
        "source_digest": source_digest(source, images, review),
        "projector": projector,
        "regions": regions,
        "init_from": init_from,
        "regions_digest": source_digest(regions, None, review) if regions is not None else None,
        "review": review_facts(review),
    }
    place = storage.join(url, RUN_FILE)
    if storage.exists(place):
        run = read_run(url)
        _check_same(run, wanted)
        if run.finished:
            storage.remove(run.samples_url)  # killed between the two, the run left them
            return run
        if storage.exists(run.samples_url):
            return run
    number, left_out = _write_samples(
        url, source, images, stage, config.max_bad_share, regions, review
    )
    facts = {
        "format": "pad-train",
        "version": __version__,
        "state": "running",
        "num_samples": number,
        "left_out": dict(left_out.counts.most_common()),
        **wanted,
    }
    run = Run(url, facts)
    write_run(run)
    return run


def read_run(url: str) -> Run:
    """The run at `url`; `UserError` where there is none."""
    place = storage.join(url, RUN_FILE)
    if not storage.exists(place):
        raise UserError(f"{url} is not a training run: it has no {RUN_FILE}")
    try:
        facts = json.loads(storage.read_bytes(place))
    except ValueError as error:
        raise UserError(f"{place} is not JSON ({error})") from error
    if facts.get("format") != "pad-train":
        raise UserError(f"{place} is not that of a training run")
    return Run(url, facts)


def write_run(run: Run) -> None:
    """Write `run.json`."""
    storage.write_json(storage.join(run.url, RUN_FILE), run.facts)


def config_of(run: Run) -> TrainConfig:
    """The config that a run was begun with; settings that do not affect its result are defaults."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in run.facts["config"].items()
    }
    return (VlsaConfig if is_vlsa(run.facts["stage"]) else TrainConfig)(**values)


def check_weights(config: TrainConfig, source: str | Sequence[str]) -> None:
    """Raise `UserError` where there are weights, and not one for each source."""
    number = len(as_sources(source))
    if config.weights and len(config.weights) != number:
        raise UserError(
            Setting("weights"),
            f" has {len(config.weights)} numbers for {number} sources; give one for each",
        )


def check_review(
    review: ReviewChoice | None, source: str | Sequence[str], regions: str | None
) -> None:
    """Raise `UserError` where marks are wanted of no data set, or one file of several.

    Logs that a data set has marks that are not asked for.
    """
    datasets = [each for each in as_sources(source) if not is_list(each)]
    datasets += [] if regions is None else [regions]
    for each in datasets:
        mention_unused(each, review)
    if review is None or not review.is_wanted:
        return
    if not datasets:
        raise UserError(
            "marks are on regions of data sets that `annotate` wrote, and there is none: give one "
            "with ",
            Setting("regions"),
            ", or leave the review out",
        )
    if review.review is not None and len(datasets) > 1:
        raise UserError(
            Setting("review"),
            f" names one file for {len(datasets)} data sets; leave it out, and the one in each "
            "data set's folder is taken",
        )


def _write_samples(
    url: str,
    source: str | Sequence[str],
    images: str | None,
    stage: TrainingStage,
    max_bad_share: float,
    regions: str | None,
    review: ReviewChoice | None,
) -> tuple[int, LeftOutSamples]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, SAMPLES)
        number, left_out = write_samples(
            source,
            images,
            stage,
            path,
            max_bad_share=max_bad_share,
            regions=regions,
            review=review,
        )
        storage.upload(path, storage.join(url, SAMPLES))
    left_out.report()
    return number, left_out


def _check_same(run: Run, wanted: dict[str, Any]) -> None:
    # a run that an older release began has the defaults of what came later
    defaults = {
        each.name: each.default
        for each in dataclasses.fields(TrainConfig)
        if each.default is not dataclasses.MISSING
    }
    known = json.loads(json.dumps(defaults))
    before = {
        **known,
        **run.facts["config"],
        **{k: run.facts.get(k) for k in wanted if k != "config"},
    }
    now = {**wanted["config"], **{k: wanted[k] for k in wanted if k != "config"}}
    changed = [name for name in now if before.get(name) != now[name]]
    if changed and not {*changed} - {"source_digest", "regions_digest"}:
        what = wanted["source" if "source_digest" in changed else "regions"]
        raise UserError(f"{what} has changed since {run.url} was begun; use another output")
    changed = [name for name in changed if not name.endswith("_digest")]
    if changed:
        listed = "; ".join(f"{n} was {before.get(n)!r} and is {now[n]!r}" for n in changed[:3])
        raise UserError(
            f"{run.url} was begun with another config: {listed}. Use the same settings to resume "
            "it, or another output"
        )
