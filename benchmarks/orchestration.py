"""Images per second of the engine alone: a whole run on Ray with models that do nothing.

`python benchmarks/orchestration.py [--num-images 20000] [--repeats 3]` reads tiny JPEG images from
a tar, decodes them, passes them through all four stages (four regions per image) and writes the
data set, in the layouts `fused` and `pools`. The start of Ray and the listing of the source are
left out of `images_per_s` (from the first images' way into the stages to the last commit) and are
part of `wall_s`, but for the start of Ray, which is running before.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common

# as a run sets them where it starts Ray itself, before Ray and torch are imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_task_events_max_num_task_in_gcs", "1000")

GOAL_IMAGES_PER_S = 500
NUM_SLOTS = 6


def main() -> None:
    """Measure both layouts in turn, write and print."""
    parser = common.make_parser(__doc__, "orchestration")
    parser.add_argument("--num-images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk-size", type=int, default=16)
    parser.add_argument("--layouts", nargs="+", default=["fused", "pools"])
    arguments = parser.parse_args()
    machine = common.describe_machine()
    runs: dict[str, list[dict[str, Any]]] = {layout: [] for layout in arguments.layouts}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.write_tiny_images(folder / "images.tar", arguments.num_images)
        start_ray()
        for repeat in range(arguments.repeats):
            # in turn, so that a busy spell of the machine does not fall on one layout alone
            for layout in arguments.layouts:
                output = folder / f"{layout}-{repeat}"
                runs[layout].append(
                    run(folder / "images.tar", output, layout, arguments.chunk_size)
                )
                common.say(f"{layout}: {runs[layout][-1]}")
    common.write_result(
        arguments.output,
        machine,
        {
            "what": "engine alone: models that do nothing, 64 × 48 JPEG images from a tar, decoded",
            "num_images": arguments.num_images,
            "chunk_size": arguments.chunk_size,
            "goal_images_per_s": GOAL_IMAGES_PER_S,
            **{
                layout: {
                    "images_per_s": statistics.median(run["images_per_s"] for run in of_layout),
                    "wall_s": statistics.median(run["wall_s"] for run in of_layout),
                    "runs": of_layout,
                }
                for layout, of_layout in runs.items()
            },
        },
    )


def start_ray() -> None:
    """Ray on this machine, with slots for the pools of all stages, as a run itself starts it."""
    import ray

    ray.init(
        address="local",
        num_cpus=NUM_SLOTS,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


def run(source: Path, output: Path, layout: str, chunk_size: int) -> dict[str, Any]:
    """One run; its rate as the program reports it, and its whole time."""
    from pad_pipeline.annotate.run import annotate

    began = time.perf_counter()
    report = annotate(
        str(source),
        str(output),
        common.no_op_config(chunk_size=chunk_size),
        stages=common.no_op_stages(layout),
    )
    wall_s = time.perf_counter() - began
    assert report.num_ok == report.num_images
    assert report.num_regions == 4 * report.num_images
    return {
        "images_per_s": round(report.images_per_s, 1),
        "wall_s": round(wall_s, 2),
        "wall_images_per_s": round(report.num_images / wall_s, 1),
    }


if __name__ == "__main__":
    main()
