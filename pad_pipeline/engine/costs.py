"""What a run costs in time: the seconds of each stage, the workers that balance them, the rate.

The cost model. Stage i takes s_i seconds per image on one GPU of one kind, decoding included,
and has n_i workers of a GPU each:

    pools: images/s = min over i of n_i / s_i        fused: images/s = N / (sum of s_i)

times 1 - `OVERHEAD` for the engine, and at most `ENGINE_CHUNKS_PER_S` chunks a second, which is
what one driver hands out. Stages that share GPUs share their time: g GPUs between them give
g / (sum of their s_i). Time = start-up + one chunk's way through all stages + images ÷ rate;
GPU-hours = all GPUs × time. On N equal GPUs `fused` is never slower than `pools`, as min(n_i / s_i)
<= (sum of n_i) / (sum of s_i), and it decodes once. With few GPUs the whole numbers n_i cost pools
the most, with many they come close. Pools are for models that do not fit on one GPU together, and
for GPUs of several kinds, for which s_i has to be measured on each stage's own.

Decoding counts in full, although it runs beside the GPU where two chunks are in flight, so that
runs may be faster. A detector's seconds hold for the sizes of images and of chunks that they were
measured with, as only images of one size share a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pad_pipeline.errors import UserError

MODELS = ("tag", "detect", "segment")
"""The stages that work on GPUs."""

DEFAULT_SECONDS = {"tag": 0.00193, "detect": 0.00975, "segment": 0.02473}
"""Seconds per image of the paper's models on an H200 in bfloat16, where nobody has measured on the
GPUs at hand: RAM in batches of 32, Grounding DINO of 16 with 10 tags, SAM ViT-H of 8 with 4 boxes,
images of 640 × 480, weights random (`plan` in benchmarks/results/gpu.json). Pools are sized by
their proportions, which other GPUs share more or less; the times are theirs alone."""


def default_seconds(draws_masks: bool) -> dict[str, float]:
    """`DEFAULT_SECONDS`; a detector that draws masks counts as the two that it takes the place of.

    Nobody has measured it: pools of tagger and detector are sized by this proportion until `plan`
    or the config's costs say better.
    """
    if not draws_masks:
        return DEFAULT_SECONDS
    both = DEFAULT_SECONDS["detect"] + DEFAULT_SECONDS["segment"]
    return {"tag": DEFAULT_SECONDS["tag"], "detect": both}


DEFAULT_SOURCE = "measured on an H200 with random weights, not on these GPUs"

OVERHEAD = 0.03
"""Share of the ideal rate that the engine takes; benchmarks/simulated_cluster.py found 0.3 to 2.3 %
with 8 workers on two shared cores, more with 64."""

ENGINE_CHUNKS_PER_S = {"fused": 78.0, "pools": 37.0}
"""Chunks a second that the engine alone carried, driver and workers on two cores together, see
benchmarks/orchestration.py. A cluster whose workers have cores of their own can do more."""

START_UP_S = 10.0
"""Seconds until all workers' processes run, without the loading of models; with 8 workers on two
cores, which share them, 9 were measured. Machines that have to be booted come on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds per image of each step on one worker; `models` has those of `MODELS` that run."""

    models: Mapping[str, float]
    decode: float = 0.0
    suppress: float = 0.0
    load_s: float = 0.0
    """Seconds that the slowest model takes to load."""
    fits_together: bool | None = None
    """Whether all models fit on one GPU; None where nobody knows."""
    source: str = DEFAULT_SOURCE

    def __post_init__(self) -> None:
        """Refuse other stages than `MODELS` and times that are none."""
        if not set(self.models) <= set(MODELS) or not all(
            0 < s < 1e6 for s in self.models.values()
        ):
            raise UserError(f"expected seconds per image above 0 of {', '.join(MODELS)}")

    @property
    def by_stage(self) -> dict[str, float]:
        """Seconds per image of each stage's workers in the layout `pools`, where each decodes."""
        return {name: self.models.get(name, 0.0) + self.decode for name in MODELS}

    @property
    def fused(self) -> float:
        """Seconds per image of a worker that holds the whole chain."""
        return sum(self.models.values()) + self.decode + self.suppress


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The workers of one stage: how many, and the GPUs that each reserves."""

    workers: int
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the cost model says of one layout."""

    layout: str
    num_gpus: float
    num_images: int
    shares: Mapping[str, Share]
    images_per_s: float
    """After the start."""
    limit: str
    """The stage that is the slowest, or `engine`."""
    busy: Mapping[str, float] = field(default_factory=dict)
    """Share of its time that each stage's workers compute (0–1)."""
    start_s: float
    seconds: float
    """Of the whole source, start included."""

    @property
    def gpu_hours(self) -> float:
        """Hours of all GPUs, idle ones included."""
        return self.num_gpus * self.seconds / 3600

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "gpu_hours": self.gpu_hours}


def share_out(
    seconds: Mapping[str, float],
    num_gpus: float,
    *,
    gpus_each: Mapping[str, float] | None = None,
    least: Mapping[str, int] | None = None,
    fixed: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The workers of each stage with the greatest min(workers / seconds) that `num_gpus` allow.

    A worker takes `gpus_each` GPUs (1 by default); stages have `least` workers (1 by default), and
    those in `fixed` exactly that number. One more worker after the other goes to the slowest stage,
    which is exact: when the slowest has no room for one more, every other stage had its last worker
    only because it was no faster then than the slowest is now, so a greater minimum would need as
    many of each and one more of the slowest.
    """
    gpus_each, least, fixed = gpus_each or {}, least or {}, fixed or {}
    workers = {name: fixed.get(name, least.get(name, 1)) for name in seconds}
    left = num_gpus - sum(count * gpus_each.get(name, 1.0) for name, count in workers.items())
    growing = [name for name in seconds if name not in fixed and gpus_each.get(name, 1.0) > 0]
    while growing:
        slowest = min(growing, key=lambda name: workers[name] / seconds[name])
        if gpus_each.get(slowest, 1.0) > left + 1e-9:
            break
        workers[slowest] += 1
        left -= gpus_each.get(slowest, 1.0)
    return workers


def shares_of_few(seconds: Mapping[str, float], num_gpus: int) -> dict[str, float]:
    """What each of two or three models reserves where there are fewer GPUs than models.

    On one GPU all share it; of two, the slowest model has one for itself.
    """
    by_time = sorted(seconds, key=lambda name: seconds[name])
    shares = (0.2, 0.3, 0.5) if num_gpus == 1 else (0.4, 0.6, 1.0)
    if len(seconds) == 2:
        shares = (0.4, 0.6)
    return dict(zip(by_time, shares, strict=True))


def predict_fused(
    costs: Costs, num_gpus: int, num_images: int, *, chunk_size: int, gpus_each: float = 1.0
) -> Prediction:
    """The layout `fused`: as many workers as the GPUs hold."""
    workers = max(int(num_gpus / gpus_each), 1)
    ideal = min(workers, num_gpus) / costs.fused
    engine = ENGINE_CHUNKS_PER_S["fused"] * chunk_size
    return _prediction(
        "fused",
        costs,
        num_images,
        chunk_size,
        num_gpus=num_gpus,
        shares={"annotate": Share(workers=workers, gpus=gpus_each)},
        rates={"annotate": ideal, "engine": engine / (1 - OVERHEAD)},
    )


def predict_pools(
    costs: Costs, num_gpus: int, num_images: int, shares: Mapping[str, Share], *, chunk_size: int
) -> Prediction:
    """The layout `pools` with these workers; a stage that is missing costs nothing."""
    seconds = costs.by_stage | {"suppress": costs.suppress}
    rates = {
        name: share.workers / seconds[name] for name, share in shares.items() if seconds[name] > 0
    }
    sharing = [name for name, share in shares.items() if 0 < share.gpus < 1]
    if sharing:
        gpus = sum(shares[name].workers * shares[name].gpus for name in sharing)
        together = gpus / sum(seconds[name] for name in sharing)
        rates |= {name: min(rates[name], together) for name in sharing}
    rates["engine"] = ENGINE_CHUNKS_PER_S["pools"] * chunk_size / (1 - OVERHEAD)
    return _prediction(
        "pools", costs, num_images, chunk_size, num_gpus=num_gpus, shares=shares, rates=rates
    )


def _prediction(
    layout: str,
    costs: Costs,
    num_images: int,
    chunk_size: int,
    *,
    num_gpus: int,
    shares: Mapping[str, Share],
    rates: Mapping[str, float],
) -> Prediction:
    limit = min(rates, key=lambda name: rates[name])
    rate = rates[limit] * (1 - OVERHEAD)
    start_s = START_UP_S + costs.load_s + min(chunk_size, num_images) * costs.fused
    return Prediction(
        layout=layout,
        num_gpus=num_gpus,
        num_images=num_images,
        shares=shares,
        images_per_s=rate,
        limit=limit,
        busy={name: rate / rates[name] for name in shares if name in rates},
        start_s=start_s,
        seconds=start_s + num_images / rate,
    )
