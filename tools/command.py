"""What the commands that train the embedded models share: their options, and how they begin."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from tools.annotators.training_loop import Schedule, keep_freed_memory


def make_parser(
    name: str, doc: str | None, *, num_scenes: int, threads: int = 1
) -> argparse.ArgumentParser:
    """A parser with the options of all; the numbers are defaults."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=doc)
    parser.add_argument("--output", type=Path, required=True, help="where the run writes")
    parser.add_argument("--scenes", type=Path, help="scenes drawn (default: OUTPUT/scenes)")
    parser.add_argument("--num-scenes", type=int, default=num_scenes)
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument("--minutes", type=float, help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=threads)
    return parser


def begin(arguments: argparse.Namespace) -> Path:
    """Set this process up for training; returns the folder of the scenes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    return arguments.scenes or arguments.output / "scenes"


def shortened(plan: Schedule, steps: int | None) -> Schedule:
    """The plan with another number of steps, if there is one."""
    return dataclasses.replace(plan, steps=steps) if steps else plan
