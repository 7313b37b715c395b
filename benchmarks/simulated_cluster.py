"""The engine on a cluster of simulated GPUs: stages that sleep as long as models would compute.

`python benchmarks/simulated_cluster.py --gpus 8 [--costs tag=0.005,detect=0.04,segment=0.067]`
starts Ray with nodes of so many GPUs and CPUs that are only counted. It takes the pools that the
program chooses for the costs (by default those measured on an H200) and annotates tiny images
with the engine as it is: readers, actor pools, object store, ledger, shards. A stage sleeps its
seconds per image for each image of a chunk, after `--load-s` seconds of loading; nothing decodes.

Nodes of a cluster start processes and import with cores of their own, within seconds; here a few
cores would do so for all nodes, one after the other. So every node has a process ready per CPU,
with Ray Data imported, before the run begins; `--cold` leaves that out.

Reported are the rate after ramp-up beside the ideal one, min(workers ÷ seconds); ramp-up, from the
call to when the last worker has begun its first chunk; how busy each stage was after that;
and the rate and time that `costs.predict_pools` predicts. The last chunks, when workers run out of
work, do not count for the rate. `--slower 4` makes every GPU four times as slow, where this
machine's cores, which do the work of all nodes, could not keep up with the engine otherwise.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
from simulated_nodes import SimulatedCluster

from pad_pipeline.engine import costs as cost_model
from pad_pipeline.engine.config import STAGE_NAMES, AnnotateConfig
from pad_pipeline.engine.plan import StageSpec, size_pools
from pad_pipeline.engine.stages import Seconds

# as a run sets them where it starts Ray itself, before Ray is imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

GOAL_SHARE, GOAL_RAMP_UP_S, GOAL_PREDICTION = 0.95, 60.0, 0.10
SUPPRESS_S = 0.0002


def main() -> None:
    """Run once, write and print."""
    parser = common.make_parser(__doc__, "simulated_cluster")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--costs", help="seconds per image; without it those of costs.py")
    parser.add_argument("--seconds", type=float, default=120.0, help="ideal time of all images")
    parser.add_argument("--chunk-size", type=int, default=32)
    parser.add_argument("--load-s", type=float, default=10.0, help="time that each model loads")
    parser.add_argument("--slower", type=float, default=1.0, help="factor on all costs")
    parser.add_argument("--gpus-per-node", type=int, default=8)
    parser.add_argument("--cold", action="store_true", help="nodes without processes ready")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    machine = common.describe_machine()
    result = simulate(arguments)
    common.write_result(arguments.output, machine, result)


def simulate(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run on a cluster of its own, compared with ideal and prediction."""
    config = common.no_op_config(
        costs=arguments.costs, chunk_size=arguments.chunk_size, rows_per_shard=64 * 32
    )
    pools = size_pools(config, arguments.gpus)
    seconds = config.seconds_by_model or cost_model.DEFAULT_SECONDS
    seconds = {name: value * arguments.slower for name, value in seconds.items()}
    ideal = min(pools[name].max_workers / value for name, value in seconds.items())
    num_images = round(ideal * arguments.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "notes").mkdir()
        common.write_tiny_images(folder / "images.tar", num_images)
        stages = [
            StageSpec(
                name=stage,
                make=partial(
                    build_sleeper,
                    stage,
                    seconds.get(stage, SUPPRESS_S),
                    arguments.load_s if stage in seconds else 0.0,
                    str(folder / "notes"),
                ),
                pool=pools[stage],
                keep_bytes=stage != STAGE_NAMES[-1],
            )
            for stage in STAGE_NAMES
        ]
        with SimulatedCluster(
            arguments.gpus, arguments.gpus_per_node, cold=arguments.cold
        ) as num_ready:
            run = run_timed(folder, config, stages)
        first = first_chunks(folder / "notes")
    workers = {name: pool.max_workers for name, pool in pools.items()}
    shares = {
        name: cost_model.Share(workers=pool.max_workers, gpus=pool.gpus)
        for name, pool in pools.items()
    }
    known = cost_model.Costs(models=seconds, suppress=SUPPRESS_S, load_s=arguments.load_s)
    predicted = cost_model.predict_pools(
        known, arguments.gpus, num_images, shares, chunk_size=arguments.chunk_size
    )
    ramp_up_s = max(max(times) for times in first.values()) - run.began_s
    rate, window_s, busy = steady(run.done, run.began_s + ramp_up_s, arguments.chunk_size, workers)
    return {
        "what": "engine with stages that sleep: no GPU, no model, 64 x 48 JPEG images, not decoded",
        "costs_from": "given" if arguments.costs else cost_model.DEFAULT_SOURCE,
        "slower_than_these": arguments.slower,
        "seconds_per_image": {name: round(value, 5) for name, value in seconds.items()},
        "num_gpus": arguments.gpus,
        "num_nodes": -(-arguments.gpus // arguments.gpus_per_node),
        "processes_kept_ready": num_ready,
        "workers": workers,
        "workers_that_worked": {name: len(times) for name, times in first.items()},
        "num_images": num_images,
        "chunk_size": arguments.chunk_size,
        "load_s": arguments.load_s,
        "goals": {
            "share_of_ideal": GOAL_SHARE,
            "ramp_up_s": GOAL_RAMP_UP_S,
            "prediction_error": GOAL_PREDICTION,
        },
        "ideal_images_per_s": round(ideal, 2),
        "images_per_s_after_ramp_up": round(rate, 2),
        "share_of_ideal": round(rate / ideal, 4),
        "measured_over_s": round(window_s, 1),
        "ramp_up_s": round(ramp_up_s, 1),
        "first_chunk_s": {
            name: [round(min(t) - run.began_s, 1), round(max(t) - run.began_s, 1)]
            for name, t in first.items()
        },
        "busy_share": busy,
        "wall_s": round(run.wall_s, 1),
        "predicted": {
            "images_per_s": round(predicted.images_per_s, 2),
            "rate_error": round(predicted.images_per_s / rate - 1, 4),
            "seconds": round(predicted.seconds, 1),
            "seconds_error": round(predicted.seconds / run.wall_s - 1, 4),
            "seconds_error_with_the_start_measured": round(
                (predicted.seconds - predicted.start_s + ramp_up_s) / run.wall_s - 1, 4
            ),
            "limit": predicted.limit,
        },
        "memory_of_all_processes_gib": run.memory_gib,
        "stages": run.stages,
    }


# --- stages --------------------------------------------------------------------------------------


def build_sleeper(name: str, seconds_per_image: float, load_s: float, notes: str, spent: Seconds):
    """A stage that takes its time and sets what the record needs; it notes its first chunk."""
    import os
    import time
    from pathlib import Path

    from pad_pipeline.models.protocols import Boxes, Mask
    from pad_pipeline.records import Tag

    tags = tuple(Tag(word, 0.9) for word in ("ball", "chair", "dog", "tree"))
    boxes = Boxes(
        np.array([[0, 0, 32, 24], [32, 0, 64, 24], [0, 24, 32, 48], [32, 24, 64, 48]], np.float32),
        np.full(4, 0.8, np.float32),
        tuple(tag.tag for tag in tags),
        1,
    )
    masks = (Mask("PP2", 48, 64, 768, 0.9),) * 4
    started = False
    time.sleep(load_s)

    def stage(samples):
        nonlocal started
        began = time.monotonic()
        if not started:
            started = True
            (Path(notes) / f"{name}-{os.getpid()}").write_text(str(time.time()))
        for sample in samples:
            if name == "tag":
                sample.width, sample.height, sample.tags = 64, 48, tags
            elif name == "detect":
                sample.boxes = boxes
            elif name == "segment":
                sample.masks = masks
        time.sleep(max(seconds_per_image * len(samples) - (time.monotonic() - began), 0.0))
        spent[name] = spent.get(name, 0.0) + time.monotonic() - began
        return samples

    return stage


def first_chunks(notes: Path) -> dict[str, list[float]]:
    """When each worker began its first chunk (`time.time()`), by stage."""
    first: dict[str, list[float]] = {name: [] for name in STAGE_NAMES}
    for path in notes.iterdir():
        first[path.name.partition("-")[0]].append(float(path.read_text()))
    return first


# --- run -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen of one run; times are `time.time()`."""

    began_s: float
    wall_s: float
    done: list[tuple[float, Mapping[str, float]]]
    """When each chunk came back, and the seconds that each stage's worker had it."""
    memory_gib: float | None
    stages: Mapping[str, Any]


def run_timed(folder: Path, config: AnnotateConfig, stages: Sequence[StageSpec]) -> Run:
    """`annotate`, with the time at which each chunk came back."""
    from pad_pipeline.annotate import stream as stream_module
    from pad_pipeline.annotate.run import annotate

    done: list[tuple[float, Mapping[str, float]]] = []
    memory: list[float] = []
    stream = stream_module.stream

    def timed(*arguments: Any, **options: Any) -> Iterator[stream_module.CompletedChunk]:
        for chunk in stream(*arguments, **options):
            done.append((time.time(), {each.stage: each.seconds for each in chunk.timings}))
            if len(done) % 500 == 250:
                memory.append(_memory_gib())
            yield chunk

    began_s = time.time()
    stream_module.stream = timed
    try:
        report = annotate(str(folder / "images.tar"), str(folder / "output"), config, stages=stages)
    finally:
        stream_module.stream = stream
    wall_s = time.time() - began_s
    assert report.num_ok == report.num_images, report.failures
    peak = round(max(memory), 2) if memory else None
    return Run(began_s, wall_s, done, peak, report.stages)


def steady(
    done: Sequence[tuple[float, Mapping[str, float]]],
    ramp_up_s: float,
    chunk_size: int,
    workers: Mapping[str, int],
) -> tuple[float, float, dict[str, float]]:
    """Images/s between ramp-up and the last chunks, the seconds between, busy shares of stages.

    The rate is the slope of a line through all chunks of that time: workers that began together
    come back together, so that its two ends alone would depend on where between them they fall.
    """
    first = sum(when < ramp_up_s for when, _ in done)
    last = len(done) - 1 - 2 * sum(workers.values())
    if last - first < 20:
        raise SystemExit("the run was too short to measure a rate: give more --seconds")
    window_s = done[last][0] - done[first][0]
    busy = {
        name: round(sum(spent[name] for _, spent in done[first:last]) / count / window_s, 4)
        for name, count in workers.items()
    }
    times_s = np.array([when for when, _ in done[first : last + 1]])
    chunks_per_s = np.polyfit(times_s - times_s[0], np.arange(len(times_s)), 1)[0]
    return float(chunks_per_s) * chunk_size, window_s, busy


def _memory_gib() -> float:
    """Memory that is taken on the machine, in GiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (values["MemTotal"] - values["MemAvailable"]) / 2**20


if __name__ == "__main__":
    main()
