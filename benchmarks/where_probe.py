"""What the embedded tower's patches say of where things are, read without a language model.

Two small readers get the patches that projectors get. One guesses a patch's column and row by a
straight line; the other scores all patches for a named thing and turns the 64 scores into a box,
as a language model could that finds the patches of what it is asked for and knows where each
of them stands.

    python benchmarks/where_probe.py --output benchmarks/results/where_probe.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from pad_pipeline.evaluate.scoring.box_answers import iou
from pad_pipeline.reproduce.bench import QUICK, Bench
from pad_pipeline.scenes.generator import KINDS, generate_scene
from pad_pipeline.scenes.kinds import SPECS
from pad_pipeline.scenes.questions import draw_questions, on_padded_square

FIRST_SCENE, FIRST_HELD_OUT = 50_000_000, 60_000_000
COLOURS = sorted({colour for spec in SPECS.values() for colour in spec.variants})
WIDTH, BATCH, LEARNING_RATE = 128, 256, 2e-3


class Reader(nn.Module):
    """Scores (B, S) of the patches for a kind and a colour, and the box (B, 4) of these."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.names = nn.Embedding(len(KINDS) + len(COLOURS) + 1, WIDTH)
        self.patches: nn.Module = nn.Linear(WIDTH, WIDTH)
        if hidden:
            self.patches = nn.Sequential(
                nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
            )
        self.box = nn.Sequential(nn.Linear(64, WIDTH), nn.GELU(), nn.Linear(WIDTH, 4))

    def forward(self, patches_BSV: Tensor, names_B2: Tensor) -> Tensor:
        """Boxes as shares of the padded square."""
        asked_BV = self.names(names_B2).sum(1)
        scores_BS = torch.einsum("bsv,bv->bs", self.patches(patches_BSV), asked_BV) / WIDTH**0.5
        return self.box(scores_BS.sigmoid()).sigmoid()


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--num-scenes", type=int, default=8000)
    parser.add_argument("--num-steps", type=int, default=1500)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    bench = Bench(replace(QUICK, num_scenes=0, num_held_out=0))
    train = queries(bench, FIRST_SCENE, arguments.num_scenes)
    test = queries(bench, FIRST_HELD_OUT, 300)
    mean, deviation = train[0].mean((0, 1)), train[0].std((0, 1))
    found = {
        "num_scenes": arguments.num_scenes,
        "num_steps": arguments.num_steps,
        "num_questions": len(test[2]),
        "position": position(train[0], test[0]),
        "boxes_of": {"the mean box": accuracy(train[3].mean(0).expand_as(test[3]), test[3])},
    }
    for name, hidden in (("a linear layer per patch", False), ("a hidden layer per patch", True)):
        reader = Reader(hidden)
        optimizer = torch.optim.AdamW(reader.parameters(), LEARNING_RATE)
        for step in range(arguments.num_steps):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1, step / 50) * (1 - step / arguments.num_steps)
            chosen = torch.randint(len(train[1]), (BATCH,))
            patches = (train[0][train[1][chosen]] - mean) / deviation
            loss = l1_loss(reader(patches, train[2][chosen]), train[3][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            boxes = reader((test[0][test[1]] - mean) / deviation, test[2])
        found["boxes_of"][name] = accuracy(boxes, test[3])
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))  # noqa: T201


def queries(bench: Bench, first: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(patches of the scenes, and of each question its scene, the names asked for, its box)."""
    examples, places, names, boxes = [], [], [], []
    for place, seed in enumerate(range(first, first + number)):
        scene = generate_scene(seed)
        height, width = scene.image.shape[:2]
        examples.append(bench.example(seed, scene))
        for question in draw_questions(scene, np.random.default_rng(seed)):
            if question.topic == "where":
                assert question.bbox_xyxy is not None
                *colour, kind = _names(question.question)
                places.append(place)
                number_of = [len(KINDS) + COLOURS.index(one) for one in colour]
                names.append([KINDS.index(kind), *(number_of or [len(KINDS) + len(COLOURS)])])
                boxes.append(on_padded_square(question.bbox_xyxy, width, height))
    bench.add_patches(examples)
    patches = torch.stack([bench.patches[example.id] for example in examples])
    return patches, torch.tensor(places), torch.tensor(names), torch.tensor(boxes)


def position(train: Tensor, test: Tensor) -> dict[str, list[float]]:
    """Deviation of a patch's column and row, and what a straight line through it leaves of it."""
    side = round(train.shape[1] ** 0.5)
    cells = torch.arange(side * side)
    wanted_S2 = torch.stack([cells % side, cells // side], 1).double()

    def stack(patches: Tensor) -> Tensor:
        flat = patches[:300].flatten(0, 1).double()
        return torch.cat([flat, torch.ones(len(flat), 1)], 1)

    known, unknown = stack(train), stack(test)
    wanted = wanted_S2.repeat(len(known) // len(wanted_S2), 1)
    line = torch.linalg.lstsq(known, wanted).solution
    left = unknown @ line - wanted_S2.repeat(len(unknown) // len(wanted_S2), 1)
    return {"deviation": wanted_S2.std(0).tolist(), "unexplained": left.std(0).tolist()}


def accuracy(boxes: Tensor, truth: Tensor) -> float:
    """Acc@0.5."""
    hits = [
        iou(tuple(a), tuple(b)) >= 0.5 for a, b in zip(boxes.tolist(), truth.tolist(), strict=True)
    ]
    return sum(hits) / len(hits)


def _names(question: str) -> list[str]:
    """The colour, if it is said, and the kind."""
    name = question.removeprefix("Where is the ").removesuffix("?")
    colour, _, kind = name.partition(" ")
    return [colour, kind] if colour in COLOURS and kind in KINDS else [name]


if __name__ == "__main__":
    main()
