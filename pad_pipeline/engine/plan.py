"""What runs where: the stages of a run as data, and how each is built on its worker."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pad_pipeline.engine import costs
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.errors import UserError
from pad_pipeline.models import references

if TYPE_CHECKING:
    from pad_pipeline.engine.stages import ModelStage, Seconds, Stage

logger = logging.getLogger(__name__)

STAGE_NAMES = ("tag", "detect", "suppress", "segment")


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one operator: how many, and what each reserves of the cluster."""

    min_workers: int
    max_workers: int
    gpus: float
    cpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One operator of the run: how to build its stage and which workers it gets.

    `make` is called once on each worker with the dict that the stage adds its times to. It must
    be picklable. `keep_bytes` says whether a later operator still reads the encoded image.
    The service passes at most `batch_size` images in one call; a run passes whole chunks, of
    which the stage makes batches itself.
    """

    name: str
    make: Callable[[Seconds], Stage]
    pool: Pool
    keep_bytes: bool
    batch_size: int = 16


def resolve(config: AnnotateConfig, *, cluster_gpus: float | None = None) -> AnnotateConfig:
    """The config with device and dtype decided.

    `cluster_gpus` is the number of GPUs of the cluster that the models will run on; None means
    this machine. Raises `UserError` where a GPU is asked for that is not there.
    """
    has_gpu = _sees_gpu() if cluster_gpus is None else cluster_gpus > 0
    device = config.device
    if device == "auto":
        device = "cuda" if has_gpu else "cpu"
    if device != "cpu" and cluster_gpus is None:
        from pad_pipeline.models.base import check_device

        check_device(device)
    elif device == "cuda" and not has_gpu:
        raise UserError(
            "--device cuda was asked for, but the Ray cluster has no GPU; add a GPU node, or use "
            "--device cpu"
        )
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    return replace(config, device=device, dtype=dtype)


def _sees_gpu() -> bool:
    """Whether torch sees a GPU on this machine.

    Without a driver of one it does not, and need not be asked: importing it takes seconds.
    """
    if not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_driver() -> bool:
    """Whether the driver of an NVIDIA or AMD GPU is installed."""
    if os.path.exists("/dev/kfd"):
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def locate_models(config: AnnotateConfig) -> AnnotateConfig:
    """The config with every model's path absolute, as workers elsewhere need it.

    Hub ids and `embedded` stay as they are. Raises `UserError` where a model is not there.
    """
    return replace(
        config,
        tag=replace(config.tag, model=_located(config.tag.model)),
        detect=replace(config.detect, model=_located(config.detect.model)),
        segment=replace(config.segment, model=_located(config.segment.model)),
    )


def _located(reference: str) -> str:
    if reference == references.EMBEDDED:
        return reference
    place = references.resolve(reference)
    return str(place.absolute()) if isinstance(place, Path) else place


def local_gpus(config: AnnotateConfig) -> int:
    """The GPUs of this machine that the models may use."""
    if config.device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()


def batch_size(config: AnnotateConfig, name: str) -> int:
    """Images in one call of a stage's model: the config's, at most those of one chunk."""
    return min(getattr(config.stages[name], "batch_size", config.chunk_size), config.chunk_size)


def warn_of_batches_above_chunk(config: AnnotateConfig) -> None:
    """Log which of the config's batch sizes the chunk size limits."""
    sizes = {name: getattr(config, name).batch_size for name in costs.MODELS}
    above = [f"{name}.batch_size {n}" for name, n in sizes.items() if n > config.chunk_size]
    if above:
        logger.warning(
            "%s above chunk_size %d: batches of %d images instead, as a batch never spans two "
            "chunks",
            " and ".join(above) + (" are" if len(above) > 1 else " is"),
            config.chunk_size,
            config.chunk_size,
        )


def plan(config: AnnotateConfig, *, num_gpus: float = 0) -> list[StageSpec]:
    """The operators of a run: one for the layout `fused`, one per stage for `pools`.

    `num_gpus` are those of the cluster; `auto` takes `pools` when there is more than one.
    """
    warn_of_batches_above_chunk(config)
    layout = config.layout
    if layout == "auto":
        layout = "pools" if num_gpus > 1 else "fused"
    on_gpu = config.device == "cuda"
    if layout == "fused":
        asked = config.fused
        gpus = asked.gpus if asked.gpus is not None else 1.0
        most = asked.max_workers
        if most is None:
            most = max(asked.min_workers, int(num_gpus / gpus) if on_gpu and gpus else 1)
        pool = Pool(asked.min_workers, most, gpus=gpus if on_gpu else 0.0, cpus=asked.cpus)
        return [
            StageSpec(
                name="annotate",
                make=partial(build_chain, config),
                pool=pool,
                keep_bytes=False,
                batch_size=config.chunk_size,
            )
        ]
    sizes = size_pools(config, num_gpus if on_gpu else 0)
    return [
        StageSpec(
            name=name,
            make=partial(build_stage, config, name),
            pool=sizes[name],
            keep_bytes=name != STAGE_NAMES[-1],
            batch_size=batch_size(config, name),
        )
        for name in STAGE_NAMES
    ]


def size_pools(
    config: AnnotateConfig, num_gpus: float, seconds: Mapping[str, float] | None = None
) -> dict[str, Pool]:
    """The workers of each stage where the config leaves them open.

    With three GPUs or more, every model has GPUs of its own, so many that the slowest stage is as
    fast as it can be by the `seconds` per image (without them, those of `config.costs` or
    `costs.DEFAULT_SECONDS`). With fewer, the models share them. Without, a worker each.
    """
    asked = {name: stage.pool for name, stage in config.stages.items()}
    seconds = seconds or config.seconds_by_model or costs.DEFAULT_SECONDS
    whole = int(num_gpus)
    gpus = {name: pool.gpus or 0.0 for name, pool in asked.items()}
    workers: dict[str, int] = {}
    if whole:
        few = costs.shares_of_few(seconds, whole) if whole < len(seconds) else {}
        for name in seconds:
            share = asked[name].gpus
            gpus[name] = few.get(name, 1.0) if share is None else share
        workers = costs.share_out(
            seconds,
            whole,
            gpus_each=gpus,
            least={name: pool.min_workers for name, pool in asked.items()},
            fixed={n: p.max_workers for n, p in asked.items() if p.max_workers is not None},
        )
    else:
        gpus = dict.fromkeys(asked, 0.0)
    sizes = {}
    for name, pool in asked.items():
        most = pool.max_workers or max(pool.min_workers, workers.get(name, 1))
        sizes[name] = Pool(pool.min_workers, most, gpus=gpus[name], cpus=pool.cpus)
    return sizes


def build_chain(config: AnnotateConfig, seconds: Seconds) -> Stage:
    """All four stages in this process, as one."""
    from pad_pipeline.engine.stages import Chain

    return Chain([build_stage(config, name, seconds) for name in STAGE_NAMES])


def build_stage(config: AnnotateConfig, name: str, seconds: Seconds) -> ModelStage:
    """One stage with its model loaded in this process.

    `config` must be resolved. Raises `UserError` where the model cannot be loaded.
    """
    import torch

    from pad_pipeline.engine import stages
    from pad_pipeline.images import ImageLimits
    from pad_pipeline.models import registry
    from pad_pipeline.models.base import Runtime

    if name == "suppress":
        return stages.suppress_stage(config.suppress, seconds)
    threads = config.threads or os.cpu_count() or 1
    # Ray sets one thread per reserved CPU slot, which are not cores here
    torch.set_num_threads(threads)
    runtime = Runtime(device=config.device, dtype=config.dtype, compile=config.compile)
    limits = ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes)
    options = {
        "batch_size": batch_size(config, name),
        "decode": stages.Decode(limits, seconds, threads),
        "seconds": seconds,
        "free_memory": torch.cuda.empty_cache if config.device == "cuda" else _nothing,
    }
    match name:
        case "tag":
            return stages.tag_stage(registry.load_tagger(config.tag.model, runtime), **options)
        case "detect":
            detector = registry.load_detector(
                config.detect.model,
                runtime,
                box_threshold=config.detect.box_threshold,
                text_threshold=config.detect.text_threshold,
                label_mode=config.detect.label_mode,
                max_pairs=config.detect.batch_size,
            )
            return stages.detect_stage(detector, **options)
        case "segment":
            segmenter = registry.load_segmenter(
                config.segment.model, runtime, max_boxes=config.segment.box_batch_size
            )
            return stages.segment_stage(segmenter, **options)
    raise ValueError(f"no stage is called {name!r}")


def fingerprints(config: AnnotateConfig) -> dict[str, str]:
    """The checksum of each stage's model; raises `UserError` where a model is not there."""
    return {
        "tag": references.fingerprint(config.tag.model, "tagger"),
        "detect": references.fingerprint(config.detect.model, "detector"),
        "segment": references.fingerprint(config.segment.model, "segmenter"),
    }


def _nothing() -> None:
    pass
