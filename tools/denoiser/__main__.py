"""Train the embedded autoencoder and denoising transformer: `python -m tools.denoiser`.

    python -m tools.denoiser autoencoder --output runs/denoiser
    python -m tools.denoiser transformer --output runs/denoiser

The autoencoder comes first. Each continues from its last checkpoint when it is run again; together
they leave a pipeline directory in diffusers' layout in OUTPUT/model. One thread and one seed give
the same weights again on the same machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from tools.annotators.data import MONITOR_SEED
from tools.annotators.training_loop import keep_freed_memory
from tools.language.frames import open_frames


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m tools.denoiser", description=__doc__)
    parser.add_argument("part", choices=("autoencoder", "transformer"))
    parser.add_argument("--output", type=Path, required=True, help="where the run writes")
    parser.add_argument("--scenes", type=Path, help="scenes drawn (default: OUTPUT/scenes)")
    parser.add_argument("--num-scenes", type=int, default=6_000)
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument("--minutes", type=float, help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    scenes = arguments.scenes or arguments.output / "scenes"
    train = open_frames(scenes / "train", arguments.num_scenes, workers=arguments.threads)
    held_out = open_frames(scenes / "monitor", 64, MONITOR_SEED)
    if arguments.part == "autoencoder":
        from tools.denoiser import train_autoencoder as module

        run = module.train_autoencoder
    else:
        from tools.denoiser import train_transformer as module

        run = module.train_transformer
    plan = module.SCHEDULE
    if arguments.steps:
        plan = dataclasses.replace(plan, steps=arguments.steps)
    run(
        train,
        held_out,
        arguments.output,
        schedule=plan,
        seed=arguments.seed,
        max_minutes=arguments.minutes,
    )


if __name__ == "__main__":
    main()
