"""A plan for a source on a given number of GPUs: both layouts by the cost model, one chosen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.costs import MODELS, Costs, Prediction, Share, predict_fused, predict_pools
from pad_pipeline.engine.plan import size_pools
from pad_pipeline.errors import Setting, UserError

_SUPPRESS_BUSY = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Both layouts on the same GPUs, and the config of the one that is proposed."""

    pools: Prediction
    fused: Prediction
    chosen: Prediction
    reason: str
    config: AnnotateConfig


def check_num_gpus(num_gpus: int) -> None:
    """Raise `UserError` for less than one GPU."""
    if num_gpus < 1:
        raise UserError(Setting("num_gpus"), f" must be at least 1, not {num_gpus}")


def propose(
    config: AnnotateConfig,
    costs: Costs,
    num_gpus: int,
    num_images: int,
    *,
    batch_sizes: Mapping[str, int] | None = None,
) -> Proposal:
    """Pool sizes, layout, time. The config's own pools and layout stay as they are.

    Raises `UserError` for less than one GPU.
    """
    check_num_gpus(num_gpus)
    for name, size in (batch_sizes or {}).items():
        config = replace(config, **{name: replace(getattr(config, name), batch_size=size)})
    pools = size_pools(config, num_gpus, costs.by_stage)
    shares = {name: Share(workers=pool.max_workers, gpus=pool.gpus) for name, pool in pools.items()}
    # Suppression needs no GPU, so it gets as many workers as keep it from being the slowest.
    models = {name: shares[name] for name in config.models}
    rate = predict_pools(
        costs, num_gpus, num_images, models, chunk_size=config.chunk_size
    ).images_per_s
    if "suppress" in shares:
        min_workers = math.ceil(rate * costs.suppress / _SUPPRESS_BUSY)
        shares["suppress"] = replace(
            shares["suppress"], workers=max(shares["suppress"].workers, min_workers)
        )
    pooled = predict_pools(costs, num_gpus, num_images, shares, chunk_size=config.chunk_size)
    gpus_each = config.fused.gpus or 1.0
    fused = predict_fused(
        costs, num_gpus, num_images, chunk_size=config.chunk_size, gpus_each=gpus_each
    )
    chosen, reason = _choose(config, costs, pooled, fused)
    config = replace(config, costs=None, layout=chosen.layout)
    if chosen is pooled:
        config = _with_pools(config, shares)
    return Proposal(pools=pooled, fused=fused, chosen=chosen, reason=reason, config=config)


def _choose(
    config: AnnotateConfig, costs: Costs, pools: Prediction, fused: Prediction
) -> tuple[Prediction, str]:
    gain = fused.images_per_s / pools.images_per_s - 1
    difference = f"{abs(gain):.0%} {'more' if gain >= 0 else 'less'} than pools"
    if config.layout == "pools":
        return pools, f"pools, as configured; fused would do {difference}, on GPUs of one kind"
    if config.layout == "fused":
        return fused, f"fused, as configured; it does {difference}"
    if costs.fits_together is False:
        return pools, "pools, as the models do not fit on one GPU together"
    if gain < 0:
        return pools, f"pools; fused would do {difference}"
    return fused, (
        f"fused, every GPU with all models: {difference}. Pools are for models that do not fit on "
        "one GPU together, and for GPUs of several kinds"
    )


def _with_pools(config: AnnotateConfig, shares: Mapping[str, Share]) -> AnnotateConfig:
    stages = config.stages
    changes = {}
    for name, share in shares.items():
        pool = replace(stages[name].pool, max_workers=share.workers)
        if name in MODELS and share.gpus != 1.0:
            pool = replace(pool, gpus=share.gpus)
        changes[name] = replace(stages[name], pool=pool)
    return replace(config, **changes)


def changed_settings(config: AnnotateConfig, preset: AnnotateConfig) -> list[Setting]:
    """The fields in which `config` differs from `preset`, with their values in `config`."""
    return list(_differences(dataclasses.asdict(config), dataclasses.asdict(preset), ""))


def _differences(
    values: Mapping[str, Any], others: Mapping[str, Any], prefix: str
) -> Iterator[Setting]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _differences(value, others[name], f"{prefix}{name}.")
        elif value != others[name]:
            yield Setting(prefix + name, value)
