"""What the stages cost on this machine: a few images of a source pass them, stage by stage."""

from __future__ import annotations

import gc
import hashlib
import heapq
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pad_pipeline.annotate.samples import read_samples
from pad_pipeline.engine.batches import batch_size, warn_about_batches_above_chunk
from pad_pipeline.engine.build import build_stage, locate_models
from pad_pipeline.engine.config import AnnotateConfig, resolve_words
from pad_pipeline.engine.costs import Costs
from pad_pipeline.engine.device import resolve_device
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import Decode, Seconds
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.images import ImageLimits
from pad_pipeline.sources import ManifestRow

logger = logging.getLogger(__name__)

MAX_TRIAL_S = 120.0
"""A trial takes no further chunk after so long; the next stages get the images that it did."""

_WORTH_IT = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSample:
    """How many images a source has, and some of them."""

    num_images: int
    rows: Sequence[ManifestRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One stage at one batch size."""

    stage: str
    batch_size: int
    """Images in one call of the model, as it ran: within the chunk and the memory."""
    images_per_pass: float | None
    """On average; less than the batch size where the sizes of images differ. None: no model."""
    images: int
    seconds_per_image: float
    load_s: float
    peak_gib: float | None
    """Memory on the GPU that torch held at most; None on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was measured; `batch_sizes` are the best ones."""

    device: str
    num_images: int
    num_failed: int
    bytes_per_image: float
    trials: Sequence[Trial]
    batch_sizes: Mapping[str, int]
    costs: Costs


def sample_rows(rows: Iterable[ManifestRow], number: int) -> SourceSample:
    """`number` of a source's rows, chosen by the hash of their ids and so the same every time.

    The whole source is listed, in memory for the chosen rows only.
    """
    if number < 1:
        raise UserError(Setting("num_images"), f" must be at least 1, not {number}")
    chosen: list[tuple[int, int, ManifestRow]] = []
    count = 0
    for row in rows:
        digest = hashlib.blake2b(row.image_id.encode("utf-8", "backslashreplace"), digest_size=8)
        entry = (-int.from_bytes(digest.digest()), count, row)
        if len(chosen) < number:
            heapq.heappush(chosen, entry)
        else:
            heapq.heappushpop(chosen, entry)
        count += 1
    in_order = [row for _, _, row in sorted(chosen, key=lambda entry: entry[1])]
    return SourceSample(num_images=count, rows=in_order)


def measure(config: AnnotateConfig, rows: Sequence[ManifestRow]) -> Probe:
    """Every stage's seconds per image on this machine, with one model loaded at a time.

    Each stage works through the images in chunks, as in a run, after a warm-up; on a GPU at half of
    the config's batch size, at it and at its double, none above the chunk size. The next stage gets
    the results of the fastest. Raises `UserError` where models are missing, or nothing is found in
    the images that would keep all stages busy.
    """
    config = locate_models(resolve_device(resolve_words(config)))
    warn_about_batches_above_chunk(config)
    samples = read_samples(rows)
    spent: Seconds = {}
    limits = ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes)
    with ThreadPoolExecutor(config.threads or _cores()) as threads:
        decode = Decode(limits, spent, threads)
        decode(_copies(samples[: config.chunk_size]))
        spent.clear()
        for chunk in _chunks(samples, config.chunk_size):
            decode(chunk)
    good = [sample for sample in samples if sample.error is None]
    if not good:
        error = samples[0].error
        raise UserError(
            f"none of the {len(samples)} sampled images can be read, for example "
            f"{samples[0].image_id}: {error.message if error else 'unknown reason'}"
        )
    trials: list[Trial] = []
    best: dict[str, Trial] = {}
    going = good
    for name in config.stage_names:
        results: list[Sample] = []
        for trial_config in _variants(config, name):
            trial, after = _try(trial_config, name, going)
            trials.append(trial)
            faster = name not in best or (
                trial.seconds_per_image < best[name].seconds_per_image * _WORTH_IT
            )
            if faster:
                best[name], results = trial, after
        going = results
    idle = [name for name in config.models if not best[name].seconds_per_image]
    if idle:
        raise UserError(
            f"the stages before {idle[0]!r} found nothing in {len(going)} images, so it cannot be "
            "measured; take more images (",
            Setting("num_images"),
            "), or give ",
            Setting("costs"),
        )
    return Probe(
        device=_device_name(config),
        num_images=len(samples),
        num_failed=len(samples) - sum(sample.error is None for sample in going),
        bytes_per_image=sum(len(sample.data or b"") for sample in good) / len(good),
        trials=trials,
        batch_sizes={name: best[name].batch_size for name in config.models},
        costs=Costs(
            models={name: best[name].seconds_per_image for name in config.models},
            decode=spent["decode"] / len(samples),
            suppress=best["suppress"].seconds_per_image if "suppress" in best else 0.0,
            load_s=max(trial.load_s for trial in best.values()),
            fits_together=_fits([trial.peak_gib for trial in best.values()]),
            source=f"measured here on {_device_name(config)}",
        ),
    )


def _variants(config: AnnotateConfig, name: str) -> list[AnnotateConfig]:
    """The config with the batch sizes of a stage that are to be tried; its own comes first."""
    if name not in config.models or config.device != "cuda":
        return [config]
    own = batch_size(config, name)
    return [
        replace(config, **{name: replace(getattr(config, name), batch_size=size)})
        for size in (own, own // 2, own * 2)
        if 1 <= size <= config.chunk_size
    ]


def _try(
    config: AnnotateConfig, name: str, samples: Sequence[Sample]
) -> tuple[Trial, list[Sample]]:
    """One stage over copies of the samples; its results too."""
    spent: Seconds = {}
    on_gpu = config.device == "cuda"
    if on_gpu:
        _reset_peak()
    began_s = time.perf_counter()
    stage = build_stage(config, name, spent)
    load_s = time.perf_counter() - began_s
    # twice where the first pass compiles
    for _ in range(2 if config.compile else 1):
        stage(_copies(samples[: config.chunk_size]))
    spent.clear()
    stage.passes.take()
    done: list[Sample] = []
    for chunk in _chunks(_copies(samples), config.chunk_size):
        done += stage(chunk)
        if spent.get(name, 0.0) > MAX_TRIAL_S:
            break
    counted = stage.passes.take()
    trial = Trial(
        stage=name,
        batch_size=stage.batch_size_in_use,
        images_per_pass=counted.images / counted.passes if counted.passes else None,
        images=len(done),
        seconds_per_image=spent.get(name, 0.0) / len(done),
        load_s=load_s,
        peak_gib=_peak_gib() if on_gpu else None,
    )
    logger.info(
        "%s: %.4g s per image in batches of %d (%d images)",
        name,
        trial.seconds_per_image,
        trial.batch_size,
        trial.images,
    )
    del stage
    gc.collect()
    return trial, done


def _copies(samples: Sequence[Sample]) -> list[Sample]:
    return [replace(sample) for sample in samples]


def _chunks(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    return [list(samples[start : start + size]) for start in range(0, len(samples), size)]


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _device_name(config: AnnotateConfig) -> str:
    import torch

    if config.device == "cuda":
        return torch.cuda.get_device_properties(0).name
    return f"a CPU with {_cores()} cores"


def _reset_peak() -> None:
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _peak_gib() -> float:
    import torch

    return torch.cuda.max_memory_reserved() / 2**30


def _fits(peaks_gib: Sequence[float | None]) -> bool | None:
    """Whether all stages' memory fits on the GPU at the same time; None without a GPU."""
    known = [peak for peak in peaks_gib if peak is not None]
    if not known:
        return None
    import torch

    return sum(known) <= 0.95 * torch.cuda.get_device_properties(0).total_memory / 2**30
