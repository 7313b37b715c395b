"""The front door of training: check everything, begin or resume the run, train, report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.storage.locks import only_run_on
from pad_pipeline.train.choices import TrainingStage, is_vlsa
from pad_pipeline.train.data.problems import describe_counts
from pad_pipeline.train.data.sample_file import TrainingSamples, local_copy
from pad_pipeline.train.data.sample_sources import as_sources
from pad_pipeline.train.data.sampler import make_sampler
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.models import check_init, check_models, with_projector
from pad_pipeline.train.run.progress import progress_display
from pad_pipeline.train.vlsa.load import check_predecessor
from pad_pipeline.train.vlsa.pictures import PICTURES_FILE

logger = logging.getLogger(__name__)


def launch(
    stage: TrainingStage,
    config: TrainConfig,
    *,
    source: str | Sequence[str],
    output: str,
    images: str | None = None,
    projector: str | None = None,
    regions: str | None = None,
    init_from: str | None = None,
    review: ReviewChoice | None = None,
    ray_address: str | None = None,
    ray_logs: bool = False,
    console: Console | None = None,
) -> list[str]:
    """Train on Ray to the end and return the report's lines.

    The same call again resumes from the last checkpoint; a finished run is left as it is. Raises
    `UserError` where input, models, output or cluster cannot be used.
    """
    source, output, images, projector = _absolute(source, output, images, projector)
    assert output is not None
    regions = storage.absolute(regions) if regions is not None else None
    config = with_projector(config, projector, regions)
    check_models(config)
    console = console or Console(stderr=True)
    init_from = storage.absolute(init_from) if init_from is not None else None
    if review is not None and review.review is not None:
        review = replace(review, review=storage.absolute(review.review))
    if init_from is not None:
        check_init(init_from, output, stage)
    elif is_vlsa(stage):
        check_predecessor(stage, None, None)
    with only_run_on(output):
        run = open_run(output, stage, config, source, images, projector, regions, init_from, review)
        if run.finished:
            logger.info("%s is finished already; nothing to do", output)
            return _report(output)
        samples = TrainingSamples(local_copy(run.samples_url))
        sampler = make_sampler(config, samples.lengths, samples.sources)
        logger.info(
            "training on %s samples, %s held out: %s steps",
            f"{len(sampler.train):,}",
            f"{len(sampler.validation):,}",
            f"{sampler.num_steps:,}",
        )
        # Ray is imported late: errors in the arguments should not wait for it.
        try:
            from pad_pipeline.train.run.on_ray import train_on_ray
        except ImportError as error:
            raise UserError(
                f"training needs more packages ({error}): pip install 'pad-pipeline[train]'"
            ) from error

        with progress_display(console, sampler.num_steps) as progress:
            train_on_ray(run, config, ray_address=ray_address, ray_logs=ray_logs, progress=progress)
        return _report(output)


def _absolute(
    source: str | Sequence[str], output: str, images: str | None, projector: str | None
) -> tuple[str | tuple[str, ...], str, str | None, str | None]:
    first, *others = [storage.absolute(each) for each in as_sources(source)]
    return (
        (first, *others) if others else first,
        storage.absolute(output),
        storage.absolute(images) if images is not None else None,
        storage.absolute(projector) if projector is not None else None,
    )


_OF_REGIONS = ("patch_loss", "cosine")


def _report(url: str) -> list[str]:
    facts = read_run(url).facts
    last = facts["last"]
    names = {
        "caption_loss": "caption loss",
        "patch_loss": "patch loss",
        "reconstruction_loss": "reconstruction loss",
        "cosine": "cosine",
        "validation/caption_loss": "held-out caption loss",
        "validation/reconstruction_loss": "held-out reconstruction",
        "validation/cosine": "held-out cosine",
        "validation/align": "held-out Align",
    }
    if not last.get("regions_per_image"):  # without regions there is neither of them, and not 0
        names = {key: label for key, label in names.items() if key not in _OF_REGIONS}
    return [
        f"finished {url}",
        *(f"{label:22} {last[key]:.4f}" for key, label in names.items() if key in last),
        *_pictures(url, facts.get("reconstruction_psnr")),
        *(f"{'left out':22} {number:,} {why}" for why, number in facts.get("left_out", {}).items()),
        *(f"{'problems':22} {line}" for line in describe_counts(facts.get("problems", {}))),
    ]


def _pictures(url: str, psnr: float | None) -> list[str]:
    if psnr is None:
        return []
    return [f"{'reconstructions':22} {storage.join(url, PICTURES_FILE)} (PSNR {psnr:.1f} dB)"]
