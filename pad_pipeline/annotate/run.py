"""One run of the chain on Ray, from a source to a finished data set."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from pad_pipeline import __version__, storage
from pad_pipeline.annotate.heartbeat import Heartbeat
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.listing import list_given
from pad_pipeline.annotate.progress import ProgressLog
from pad_pipeline.annotate.report import RunReport, count_shards
from pad_pipeline.annotate.resume import keep_chunks_of_earlier_version, open_or_resume
from pad_pipeline.engine.build import fingerprints, locate_models
from pad_pipeline.engine.config import AnnotateConfig, resolve_words
from pad_pipeline.engine.device import local_gpus, resolve_device
from pad_pipeline.engine.identity import given_of, identity
from pad_pipeline.engine.isolation import QUARANTINED
from pad_pipeline.engine.metrics import RunMetrics
from pad_pipeline.engine.plan import StageSpec, plan
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.sources import ManifestRow, is_box_file
from pad_pipeline.sources.subset import Subset
from pad_pipeline.storage.locks import only_run_on

logger = logging.getLogger(__name__)

SUMMARY = "_summary.json"
STOP_AFTER_ALL_FAILED = 200
"""A run that has only failed images stops after this many, unless `max_failed_share` is 1."""


class TooManyFailed(UserError):
    """More images failed than the config allows; the data set is complete all the same."""

    exit_code = 3

    def __init__(self, *parts: object, report: RunReport) -> None:
        super().__init__(*parts)
        self.report = report


def annotate(
    source: str,
    output: str,
    config: AnnotateConfig,
    *,
    captions: str | None = None,
    images: str | None = None,
    subset: Subset | None = None,
    stages: Sequence[StageSpec] | None = None,
    ray_address: str | None = None,
    ray_logs: bool = False,
    console: Console | None = None,
) -> RunReport:
    """Annotate every image of `source` into the data set at `output`; both may be URLs.

    The same call again continues where the last one stopped, and leaves a finished data set as it
    is. `captions` and `images` are passed to the source, `subset` says which of its images are
    annotated. `stages` replaces the config's own plan
    (tests and benchmarks bring their own models that way). Joins the Ray cluster at `ray_address`
    or the one that is there, else starts Ray on this machine.

    Raises `UserError` where input, output, models or cluster are not as they must be, and
    `TooManyFailed` where more than `config.max_failed_share` of the images failed.
    """
    # Workers of a cluster have working directories of their own.
    source, output = storage.absolute(source), storage.absolute(output)
    captions = storage.absolute(captions) if captions is not None else None
    images = storage.absolute(images) if images is not None else None
    config = resolve_words(config)
    if config.detect.boxes is not None and is_box_file(config.detect.boxes):
        boxes = storage.absolute(config.detect.boxes)
        config = replace(config, detect=replace(config.detect, boxes=boxes))
    # Nothing is written before the source has shown an image.
    subset = subset or Subset()
    listed = subset.choose(list_given(source, config, captions=captions, images=images))
    rows = chain([next(listed)], listed)
    with only_run_on(output):
        return annotate_rows(
            rows,
            output,
            config,
            provenance={
                "source": source,
                "captions": captions,
                "images": images,
                "given": given_of(config),
                **({} if subset.whole else {"subset": asdict(subset)}),
            },
            stages=stages,
            ray_address=ray_address,
            ray_logs=ray_logs,
            console=console,
        )


def annotate_rows(
    rows: Iterable[ManifestRow],
    output: str,
    config: AnnotateConfig,
    *,
    provenance: Mapping[str, Any],
    stages: Sequence[StageSpec] | None,
    ray_address: str | None,
    ray_logs: bool,
    console: Console | None,
) -> RunReport:
    """`annotate` with the images themselves; the caller holds the lock on the data set."""
    # Ray is imported late: errors in the arguments should not wait for it.
    from pad_pipeline.engine import ray_resources, ray_session

    start_s = time.monotonic()
    console = console or Console(stderr=True)
    with ray_session.shut_down_after():
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        config = resolve_device(config, cluster_gpus=cluster.num_gpus if cluster else None)
        config = keep_chunks_of_earlier_version(output, config)
        checksums = {}
        if stages is None:
            config = locate_models(config)
            checksums = fingerprints(config)
        ledger = open_or_resume(
            output,
            rows,
            identity(config, checksums),
            rows_per_shard=config.rows_per_shard,
            chunk_size=config.chunk_size,
            schema_version=config.schema_version,
        )
        if ledger.finished:
            logger.info("%s is already finished; nothing to do", output)
            return _conclude(ledger, config, None, 0, 0.0, 0.0)
        if stages is None:
            gpus = cluster.num_gpus if cluster else local_gpus(config)
            stages = plan(config, num_gpus=gpus)
        if ledger.num_finished:
            logger.info("continuing after %s finished images", f"{ledger.num_finished:,}")
        if cluster:
            ray_resources.warn_if_insufficient_resources(cluster, stages)
        else:
            ray_session.start_here(ray_resources.required_cpus(stages), verbose=ray_logs)
        logger.info("loading the models")
        before = ledger.num_finished
        metrics = RunMetrics({spec.name: spec.pool.max_workers for spec in stages})
        rate = _commit_chunks(ledger, stages, config, metrics, console)
        ledger.finish(_provenance(provenance, config, checksums))
        elapsed = time.monotonic() - start_s
        return _conclude(ledger, config, metrics, ledger.num_finished - before, elapsed, rate)


def _commit_chunks(
    ledger: Ledger,
    stages: Sequence[StageSpec],
    config: AnnotateConfig,
    metrics: RunMetrics,
    console: Console,
) -> float:
    """Stream the pending chunks through the stages and commit each; returns images/s."""
    from pad_pipeline.annotate import stream

    causes: Counter[str] = Counter()
    waiting: dict[str, int] = {}
    progress = ProgressLog(ledger.layout.num_images, ledger.num_finished, console)

    def describe() -> dict[str, Any]:
        metrics.sample_queue(dict(waiting))
        return {
            "images_per_s": progress.rate,
            "stages": metrics.to_dict(progress.seconds),
        }

    with progress, Heartbeat(ledger.output, describe):
        try:
            for chunk in stream.stream(
                ledger, stages, hang_after_s=config.hang_after_s, waiting=waiting
            ):
                ledger.commit(chunk.chunk, chunk.records)
                metrics.add(chunk.timings, chunk.seconds)
                failures = _failures(chunk.records)
                causes.update(failures)
                progress.add(
                    images=chunk.records.num_rows,
                    failed=sum(failures.values()),
                    regions=pc.sum(pc.list_value_length(chunk.records["labels"])).as_py(),
                    started_s=chunk.started_s,
                )
                all_failed = progress.failed == progress.count >= STOP_AFTER_ALL_FAILED
                if all_failed and config.max_failed_share < 1:
                    raise UserError(
                        f"stopped: all of the first {progress.count} images failed, "
                        f"{_most_common(causes)}"
                    )
        finally:
            ledger.flush()
    return progress.rate


def _conclude(
    ledger: Ledger,
    config: AnnotateConfig,
    metrics: RunMetrics | None,
    images_this_run: int,
    elapsed: float,
    rate: float,
) -> RunReport:
    """The report of a finished run; raises `TooManyFailed`."""
    report = RunReport(
        output=ledger.output,
        state="finished",
        num_images=ledger.layout.num_images,
        **count_shards(ledger.output),
        images_this_run=images_this_run,
        seconds=elapsed,
        images_per_s=rate,
        seconds_by_stage=dict(metrics.seconds) if metrics else {},
        passes_by_stage=metrics.passes_to_dict() if metrics else {},
        stages=metrics.to_dict(images_this_run / rate if rate else elapsed) if metrics else {},
    )
    if images_this_run or not storage.exists(storage.join(ledger.output, SUMMARY)):
        storage.write_json(storage.join(ledger.output, SUMMARY), report.to_dict())
    if report.failed_share > config.max_failed_share:
        num_there = report.num_images - report.num_missing
        raise TooManyFailed(
            f"{report.num_failed - report.num_missing:,} of {num_there:,} images failed, "
            f"{report.failed_share:.1%} where ",
            Setting("max_failed_share"),
            f" allows {config.max_failed_share:.1%}; "
            f"{_most_common(Counter(report.failures))}. All rows are in {ledger.output}, the "
            "failed ones with their error",
            report=report,
        )
    return report


def _failures(table: pa.Table) -> Counter[str]:
    failed = table.filter(pc.is_valid(table["error"])).select(["image_id", "error"])
    errors = failed["error"].to_pylist()
    for name, error in zip(failed["image_id"].to_pylist(), errors, strict=True):
        if error["type"] == QUARANTINED:
            logger.warning("quarantined %s: %s", name, error["message"])
    return Counter(f"{error['stage']}: {error['type']}: {error['message']}" for error in errors)


def _most_common(causes: Counter[str]) -> str:
    if not causes:
        return "for unknown reasons"
    cause, count = causes.most_common(1)[0]
    return f"{count:,} with {cause!r}"


def _provenance(
    provenance: Mapping[str, Any], config: AnnotateConfig, checksums: Mapping[str, str]
) -> dict[str, Any]:
    packages = ["torch", "transformers", "ray", "pyarrow", "pillow", "numpy", "pycocotools"]
    if "captions" in config.tag_origins and config.tag.parser is not None:
        packages += ["spacy", config.tag.parser]
    models = {name: getattr(config, name).model for name in config.models}
    models["second"] = config.detect.second
    return {
        **provenance,
        "models": {
            name: {"model": models[name], "checksum": checksum}
            for name, checksum in checksums.items()
        },
        "versions": {
            "pad_pipeline": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
