"""Train the embedded VQ model: `python -m tools.vq --output DIR`.

It leaves a model directory in OUTPUT/model, its PSNR on unseen scenes in OUTPUT/facts.json and a
picture of some of them in OUTPUT/reconstruction.png, and continues from its last checkpoint when it
is run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from tools.annotators import data, training_loop
from tools.vq.train_vq import SCHEDULE, train_vq


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m tools.vq", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="where the run writes")
    parser.add_argument("--scenes", type=Path, help="packed scenes (default: OUTPUT/scenes)")
    parser.add_argument("--num-scenes", type=int, default=2_000)
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument("--minutes", type=float, help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    training_loop.keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    scenes = arguments.scenes or arguments.output / "scenes"
    pack = data.open_pack(scenes / "train", arguments.num_scenes, workers=arguments.threads)
    held_out = data.open_pack(scenes / "monitor", 40, data.MONITOR_SEED)
    plan = SCHEDULE
    if arguments.steps:
        plan = dataclasses.replace(plan, steps=arguments.steps)
    train_vq(
        pack,
        held_out,
        arguments.output,
        schedule=plan,
        seed=arguments.seed,
        max_minutes=arguments.minutes,
    )


if __name__ == "__main__":
    main()
