"""Quality of the embedded models on unseen scenes, whole chain; how fast scenes are drawn.

`python benchmarks/embedded_quality.py [--num-scenes 400] [--first-seed 10000000] [--weights DIR]`
annotates the scenes in this process and writes `benchmarks/results/embedded_quality.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import time
from pathlib import Path

import torch

from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.engine.config import AnnotateConfig, demo
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.scenes.quality import measure

RESULTS = Path(__file__).parent / "results" / "embedded_quality.json"
BARS = {"tag_f1": 0.95, "ap50": 0.88, "mask_iou": 0.88}
SCENES_PER_S_BAR = 100


def main() -> None:
    """Annotate, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-scenes", type=int, default=400)
    parser.add_argument("--first-seed", type=int, default=10_000_000)
    parser.add_argument("--weights", type=Path, help="model directories other than the shipped")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = with_weights(demo(), arguments.weights) if arguments.weights else demo()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.num_scenes)
    scenes = [generate_scene(seed) for seed in seeds]
    annotator = Annotator(config)
    records = annotator.annotate([scene.image for scene in scenes])
    quality = dataclasses.asdict(measure(records, scenes))
    result = {
        "what": "the embedded models, predicted tags, whole chain in one process, float32",
        "seeds": [seeds.start, seeds.stop],
        "quality": {name: _rounded(value) for name, value in quality.items()},
        "bars": BARS,
        "scenes_per_s_of_one_core": round(drawing_rate(), 1),
        "scenes_per_s_bar": SCENES_PER_S_BAR,
        "box_threshold": config.detect.box_threshold,
        "nms_iou_threshold": config.suppress.iou_threshold,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads",
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    text = json.dumps(result, indent=1)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


def drawing_rate(num_scenes: int = 200, repeats: int = 5) -> float:
    """Scenes per second of one core's time, the best of some repeats of the same seeds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for seed in range(num_scenes):
            generate_scene(seed)
        best = min(best, time.process_time() - start)
    return num_scenes / best


def with_weights(config: AnnotateConfig, folder: Path) -> AnnotateConfig:
    """The same config with the models in `folder`/tagger, /detector and /segmenter."""
    return dataclasses.replace(
        config,
        tag=dataclasses.replace(config.tag, model=str(folder / "tagger")),
        detect=dataclasses.replace(config.detect, model=str(folder / "detector")),
        segment=dataclasses.replace(config.segment, model=str(folder / "segmenter")),
    )


def _rounded(value: float) -> float:
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
