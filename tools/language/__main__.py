"""Train the embedded vision tower and language model: `python -m tools.language`.

    python -m tools.language tokenizer --output runs/language
    python -m tools.language vision --output runs/language
    python -m tools.language language --output runs/language

The tokenizer comes first; the two models need it, and not each other. Each leaves a model
directory in OUTPUT/NAME/model, and continues from its last checkpoint when it is run again. The
numbers of steps and the seed are fixed: one thread gives the same weights again on the same
machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import torch

from tools.annotators import training_loop


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m tools.language", description=__doc__)
    parser.add_argument("part", choices=("tokenizer", "vision", "language"))
    parser.add_argument("--output", type=Path, required=True, help="where the run writes")
    parser.add_argument("--scenes", type=Path, help="scenes drawn (default: OUTPUT/scenes)")
    parser.add_argument("--num-scenes", type=int, default=12_000)
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument("--minutes", type=float, help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    training_loop.keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    pieces = arguments.output / "tokenizer"
    if arguments.part == "tokenizer":
        from tools.language.tokenizer import learn_pieces, save_tokenizer

        save_tokenizer(pieces, *learn_pieces(seed=arguments.seed))
        return
    if not (pieces / "tokenizer.json").is_file():
        parser.error(f"{pieces} holds no tokenizer: run the part `tokenizer` first")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pieces)
    output = arguments.output / arguments.part
    common = {"seed": arguments.seed, "max_minutes": arguments.minutes}
    if arguments.part == "language":
        from tools.language import train_language

        plan = _shortened(train_language.SCHEDULE, arguments.steps)
        train_language.train_language(tokenizer, output, schedule=plan, **common)
    else:
        from tools.annotators.data import MONITOR_SEED
        from tools.language import train_vision
        from tools.language.frames import open_frames

        scenes = arguments.scenes or arguments.output / "scenes"
        plan = _shortened(train_vision.SCHEDULE, arguments.steps)
        train = open_frames(scenes / "train", arguments.num_scenes, workers=arguments.threads)
        held_out = open_frames(scenes / "monitor", 192, MONITOR_SEED)
        train_vision.train_vision(train, held_out, tokenizer, output, schedule=plan, **common)


def _shortened(plan: training_loop.Schedule, steps: int | None) -> training_loop.Schedule:
    return dataclasses.replace(plan, steps=steps) if steps else plan


if __name__ == "__main__":
    main()
