"""Whether a small language model can say VQ indices at all, and how often they are right.

Stage 1 and 2 after VLSA in miniature, as in `vlsa.py`, then stage 3 for longer and on questions for
indices alone, without reconstruction, so that all of the time goes into these. It is run in rounds,
each of which begins with the weights of the last one. Every answer has the 16 indices of a quarter
of 64 pixels. Scored are greedy answers about scenes that training never saw: after stage 2, after
each round of stage 3, and after it where the model sees other scenes' images. Beside them stand the
most frequent index of training everywhere, and that of each place.

Settings were tried on other scenes (`--train-seed 61000000 --held-out-seed 71000000`).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine, make_parser, say, write_result
from vlsa import code_turn, read_folder, run_stage, write_scenes

from pad_pipeline.cognition.answers import AnswerError, read_indices
from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.cognition.run import make_conversations
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.run_model import RunAnswerer
from pad_pipeline.evaluate.questions.question import Question
from pad_pipeline.sources import ManifestRow
from pad_pipeline.train.run.metrics_file import read_metrics

LONGEST_ANSWER = 110
"""Tokens: 16 indices of three digits, each with comma and space, between their marks."""
BATCH_SIZE = 16


def write_questions(folder: Path, num_seeds: int) -> list[dict[str, Any]]:
    """Conversations of one question for indices each, `num_seeds` about every image of `folder`."""
    found = []
    for seed in range(num_seeds):
        output = folder / f"cognition-{seed}"
        config = CognitionConfig(codes="embedded", size=64, rgb_grid=1, seed=seed)
        make_conversations(
            str(folder / "conversations.json"), str(output), config, images=str(folder / "images")
        )
        for entry in read_folder(output):
            question, answer = code_turn(entry["conversations"])
            turns = [
                {"from": "human", "value": f"<image>\n{question}"},
                {"from": "gpt", "value": answer},
            ]
            found.append(
                {
                    "id": f"{entry['id']}-{seed}",
                    "image": entry["image"],
                    "conversations": turns,
                }
            )
    place = folder / "questions.json"
    if not place.exists():  # else a run that goes on would find its source changed
        place.write_text(json.dumps(found))
    return found


def indices_of(entries: list[dict[str, Any]]) -> np.ndarray:
    """The indices of all answers, (questions, places)."""
    return np.array([read_indices(entry["conversations"][1]["value"]) for entry in entries])


def score(run: Path, entries: list[dict[str, Any]], images: Path, shift: int = 0) -> dict[str, Any]:
    """How greedy answers compare with those that are right; `shift` shows other scenes' images."""
    answerer = RunAnswerer(str(run), GenerationConfig(device="cpu"))
    right, num_read, num_whole, first = 0, 0, 0, ""
    wanted = indices_of(entries)
    for start in range(0, len(entries), BATCH_SIZE):
        prepared = []
        for number in range(start, min(start + BATCH_SIZE, len(entries))):
            name = entries[(number + shift) % len(entries)]["image"]
            text = entries[number]["conversations"][0]["value"].removeprefix("<image>\n")
            row = ManifestRow(name, str(images / name), None)
            prepared.append(answerer.prepare(Question(entries[number]["id"], text, row)))
        for number, text in enumerate(answerer.answer(prepared, LONGEST_ANSWER), start):
            first = first or text
            try:
                found = read_indices(text)
            except AnswerError:
                continue
            num_read += 1
            num_whole += found == wanted[number].tolist()
            right += sum(a == b for a, b in zip(found, wanted[number], strict=False))
    result = {
        "right": round(right / wanted.size, 4),
        "indices": wanted.size,
        "answers": len(entries),
        "answers_read": num_read,
        "answers_all_right": num_whole,
        "first_answer": first[:200],
    }
    say(f"{run.name}, images shifted by {shift}: {json.dumps(result)}")
    return result


def guesses(train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """What would be right without looking: the most frequent index, and that of each place."""
    [(everywhere, _)] = Counter(train.ravel().tolist()).most_common(1)
    places = [Counter(column.tolist()).most_common(1)[0][0] for column in train.T]
    return {
        "most_frequent_index": round(float((held_out == everywhere).mean()), 4),
        "most_frequent_of_each_place": round(float((held_out == places).mean()), 4),
    }


def main() -> None:
    """Train, score, and write the result."""
    parser = make_parser(__doc__, "vlsa_indices")
    parser.add_argument("--num-scenes", type=int, default=800)
    parser.add_argument("--num-held-out", type=int, default=64)
    parser.add_argument("--train-seed", type=int, default=60_000_000)
    parser.add_argument("--held-out-seed", type=int, default=70_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="stage 3, each from the last one's")
    parser.add_argument("--steps", type=int, default=150, help="of each round")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--folder", type=Path, help="keep runs here; finished parts are kept")
    options = parser.parse_args()
    machine = describe_machine()
    torch.set_num_threads(1)
    folder = options.folder or Path(tempfile.mkdtemp())
    train, held_out = folder / "train", folder / "held_out"
    for place, seed, number in (
        (train, options.train_seed, options.num_scenes),
        (held_out, options.held_out_seed, options.num_held_out),
    ):
        if not (place / "conversations.json").exists():
            write_scenes(place, seed, number)
    asked, wanted = write_questions(train, 3), write_questions(held_out, 1)
    images, before = train / "images", folder / "vlsa-2"
    few = {"reconstruction_weight": 0.0, "max_steps": 24}
    run_stage("vlsa-1", train / "captions.json", images, folder / "vlsa-1", None, **few)
    run_stage("vlsa-2", train / "conversations.json", images, before, folder / "vlsa-1", **few)
    trained = []
    for number in range(1, options.rounds + 1):
        output = folder / f"vlsa-3-{number}"
        values = run_stage(
            "vlsa-3",
            train / "questions.json",
            images,
            output,
            trained[-1][0] if trained else before,
            reconstruction_weight=0.0,
            max_steps=options.steps,
            global_batch=options.batch,
            micro_batch=options.batch,
            learning_rate=options.learning_rate,
            llm_learning_rate=options.learning_rate,
            num_pictures=0,
        )
        seconds = sum(line["step_s"] for line in read_metrics(str(output)))
        trained.append((output, {**values, "seconds": round(seconds, 1)}))
    shown = held_out / "images"
    result = {
        "scenes": {"train": options.num_scenes, "held_out": options.num_held_out},
        "questions": {"train": len(asked), "held_out": len(wanted)},
        "batch": options.batch,
        "learning_rate": options.learning_rate,
        "before": score(before, wanted, shown),
        "after": [
            {
                "steps": number * options.steps,
                **{name: values[name] for name in ("seconds", "held_out_llm_loss")},
                **score(output, wanted, shown),
                "right_with_images_of_other_scenes": score(output, wanted, shown, 7)["right"],
            }
            for number, (output, values) in enumerate(trained, 1)
        ],
        **guesses(indices_of(asked), indices_of(wanted)),
    }
    write_result(options.output, machine, result)


if __name__ == "__main__":
    main()
