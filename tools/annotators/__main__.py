"""Train an embedded model: `python -m tools.annotators MODEL --output DIR`.

The shipped weights come from these commands, the first two side by side (26, 65 and 23 minutes of
about one core):

    python -m tools.annotators tagger --output runs/tagger --scenes runs/scenes
    python -m tools.annotators segmenter --output runs/segmenter --scenes runs/scenes
    python -m tools.annotators detector --output runs/detector --scenes runs/scenes \\
        --backbone runs/tagger/model

Each leaves a model directory in OUTPUT/model, and continues from its last checkpoint when it is
run again. The numbers of steps and the seed are fixed, so that the same machine and number of
threads give the same weights again, and others equally good ones;
`pad_pipeline/scenes/weights/README.md` says in what the shipped runs differed.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from tools.annotators import data, training_loop


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m tools.annotators", description=__doc__)
    parser.add_argument("model", choices=("tagger", "detector", "segmenter"))
    parser.add_argument("--output", type=Path, required=True, help="where the run writes")
    parser.add_argument("--scenes", type=Path, help="packed scenes (default: OUTPUT/scenes)")
    parser.add_argument("--num-scenes", type=int, default=20_000)
    parser.add_argument(
        "--backbone", type=Path, help="a trained tagger's directory, for the detector"
    )
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument("--minutes", type=float, help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    training_loop.keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    scenes = arguments.scenes or arguments.output / "scenes"
    if arguments.model == "detector" and arguments.backbone is None:
        logging.warning(
            "without --backbone the detector learns to see first: plan for 3x the steps"
        )
    pack = data.open_pack(scenes / "train", arguments.num_scenes, workers=arguments.threads)
    held_out = data.open_pack(scenes / "monitor", 200, data.MONITOR_SEED)
    common = {"seed": arguments.seed, "max_minutes": arguments.minutes}
    if arguments.model == "tagger":
        from tools.annotators import train_tagger as module

        run, extra = module.train_tagger, {}
    elif arguments.model == "detector":
        from tools.annotators import train_detector as module

        run, extra = module.train_detector, {"backbone": module.read_backbone(arguments.backbone)}
    else:
        from tools.annotators import train_segmenter as module

        run, extra = module.train_segmenter, {}
    plan = module.SCHEDULE
    if arguments.steps:
        plan = dataclasses.replace(plan, steps=arguments.steps)
    run(pack, held_out, arguments.output, schedule=plan, **extra, **common)


if __name__ == "__main__":
    main()
