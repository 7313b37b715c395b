"""What runs where: the operators of a run as data, one for each pool of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pad_pipeline.engine import costs
from pad_pipeline.engine.batches import (
    batch_size,
    chunks_in_flight,
    warn_about_batches_above_chunk,
)
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.stages import Seconds, Stage


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
    which the stage makes batches itself, and up to `in_flight` of them at once.
    """

    name: str
    make: Callable[[Seconds], Stage]
    pool: Pool
    keep_bytes: bool
    batch_size: int = 16
    in_flight: int = 1


def plan(config: AnnotateConfig, *, num_gpus: float = 0) -> list[StageSpec]:
    """The operators of a run: one for the layout `fused`, one per stage for `pools`.

    `num_gpus` are those of the cluster; `auto` takes `pools` when there is more than one.
    """
    warn_about_batches_above_chunk(config)
    layout = config.layout
    if layout == "auto":
        layout = "pools" if num_gpus > 1 else "fused"
    on_gpu = config.device == "cuda" and bool(config.models)
    in_flight = chunks_in_flight(config)
    if layout == "fused":
        requested = config.fused
        gpus = requested.gpus if requested.gpus is not None else 1.0
        max_workers = requested.max_workers
        if max_workers is None:
            fitting = int(num_gpus / gpus) if on_gpu and gpus else 1
            max_workers = max(requested.min_workers, fitting)
        pool = Pool(
            requested.min_workers, max_workers, gpus=gpus if on_gpu else 0.0, cpus=requested.cpus
        )
        return [
            StageSpec(
                name="annotate",
                make=partial(build_chain, config),
                pool=pool,
                keep_bytes=False,
                batch_size=max(batch_size(config, name) for name in costs.MODELS),
                in_flight=in_flight,
            )
        ]
    sizes = size_pools(config, num_gpus if on_gpu else 0)
    return [
        StageSpec(
            name=name,
            make=partial(build_chain, config, names=(name,)),
            pool=sizes[name],
            keep_bytes=name != config.stage_names[-1],
            batch_size=batch_size(config, name),
            in_flight=in_flight if name in costs.MODELS else 1,
        )
        for name in config.stage_names
    ]


def size_pools(
    config: AnnotateConfig, num_gpus: float, seconds: Mapping[str, float] | None = None
) -> dict[str, Pool]:
    """The workers of each stage where the config leaves them open.

    With three GPUs or more, every model has GPUs of its own, shared out to make the slowest stage
    as fast as it can be by the `seconds` per image (without them, those of `config.costs` or
    `costs.DEFAULT_SECONDS`). With fewer, the models share them. Without, a worker each, as a stage
    has whose model is not needed.
    """
    requested = {name: config.stages[name].pool for name in config.stage_names}
    seconds = seconds or config.seconds_by_model or costs.default_seconds(config.draws_masks)
    seconds = {name: seconds[name] for name in config.models}
    whole = int(num_gpus)
    gpus = {name: pool.gpus or 0.0 for name, pool in requested.items()}
    workers: dict[str, int] = {}
    if whole:
        few = costs.shares_of_few(seconds, whole) if whole < len(seconds) else {}
        for name in seconds:
            share = requested[name].gpus
            gpus[name] = few.get(name, 1.0) if share is None else share
        workers = costs.share_out(
            seconds,
            whole,
            gpus_each=gpus,
            least={name: pool.min_workers for name, pool in requested.items()},
            fixed={n: p.max_workers for n, p in requested.items() if p.max_workers is not None},
        )
    else:
        gpus = dict.fromkeys(requested, 0.0)
    sizes = {}
    for name, pool in requested.items():
        max_workers = pool.max_workers or max(pool.min_workers, workers.get(name, 1))
        sizes[name] = Pool(pool.min_workers, max_workers, gpus=gpus[name], cpus=pool.cpus)
    return sizes
