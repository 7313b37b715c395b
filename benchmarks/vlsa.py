"""The three stages after VLSA in miniature: what reconstruction does to the language model's loss.

The embedded models, on scenes that this script draws: captions in stage 1, questions about the
scenes in stage 2, and the same with questions for VQ indices and RGB values in stage 3. Trained
three times from the same seed and in the same order: with reconstruction, without, and with
reconstruction but without those questions in stage 3. Reported are seconds, losses of held-out
scenes, the reconstruction loss at a stage's beginning and end, and the share of VQ indices of
held-out scenes that greedy answers get right, place by place.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine, make_parser, say, write_result
from PIL import Image

from pad_pipeline.cognition.answers import AnswerError, read_indices
from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.cognition.run import make_conversations
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.run_model import RunAnswerer
from pad_pipeline.evaluate.questions.question import Question
from pad_pipeline.scenes.generator import Scene, generate_scene
from pad_pipeline.scenes.questions import draw_questions
from pad_pipeline.sources import ManifestRow
from pad_pipeline.train.choices import VlsaStage
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.vlsa.config import PRESETS

FIRST_SCENE = 60_000_000
FIRST_HELD_OUT = 70_000_000
CODES = CognitionConfig(codes="embedded", size=64, rgb_grid=1)
"""Quarters of 64 pixels have 16 indices: what the embedded language model's context holds."""
EPOCHS: dict[VlsaStage, int] = {"vlsa-1": 6, "vlsa-2": 6, "vlsa-3": 6}


def write_scenes(folder: Path, first_seed: int, number: int) -> None:
    """Images, `captions.json` and `conversations.json` of drawn scenes."""
    (folder / "images").mkdir(parents=True)
    captions, conversations = [], []
    for seed in range(first_seed, first_seed + number):
        scene, name = generate_scene(seed), f"{seed}.png"
        Image.fromarray(scene.image).save(folder / "images" / name)
        captions.append(_entry(name, [("Describe the image.", scene.caption)]))
        conversations.append(_entry(name, _questions(scene, seed)))
    (folder / "captions.json").write_text(json.dumps(captions))
    (folder / "conversations.json").write_text(json.dumps(conversations))


def _questions(scene: Scene, seed: int) -> list[tuple[str, str]]:
    """Up to two questions, none with boxes, whose numbers the embedded tokenizer spells out."""
    drawn = draw_questions(scene, np.random.default_rng(seed))
    chosen = [each for each in drawn if each.topic not in ("where", "kind")]
    return [(each.question, each.answer) for each in chosen[:2]]


def _entry(name: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    said = []
    for number, (question, answer) in enumerate(turns):
        image = "<image>\n" if number == 0 else ""
        said += [{"from": "human", "value": image + question}, {"from": "gpt", "value": answer}]
    return {"id": name.removesuffix(".png"), "image": name, "conversations": said}


def run_stage(
    stage: VlsaStage, source: Path, images: Path, output: Path, before: Path | None, **changes: Any
) -> dict[str, Any]:
    """Train one stage in this process; its losses and seconds."""
    values = {"epochs": EPOCHS[stage], "loggers": (), "device": "cpu", **changes}
    config = dataclasses.replace(PRESETS[stage]["demo"](), **values)
    init_from = str(before) if before is not None else None
    run = open_run(str(output), stage, config, str(source), str(images), None, None, init_from)
    began = time.perf_counter()
    last = train(run, config, OneWorker())
    lines = read_metrics(str(output))
    facts = read_run(str(output)).facts
    result = {
        "seconds": round(time.perf_counter() - began, 1),
        "steps": len(lines),
        "held_out_llm_loss": round(last["validation/caption_loss"], 4),
        "problems": facts["problems"],
    }
    if "reconstruction_loss" in last:
        losses = [line["reconstruction_loss"] for line in lines]
        quarter = max(1, len(losses) // 4)
        result |= {
            "reconstruction_loss_first_quarter": round(float(np.mean(losses[:quarter])), 4),
            "reconstruction_loss_last_quarter": round(float(np.mean(losses[-quarter:])), 4),
            "held_out_reconstruction_loss": round(last["validation/reconstruction_loss"], 4),
            "psnr_of_reconstructions_db": round(facts["reconstruction_psnr"], 2),
        }
    say(f"{output.name}: {json.dumps(result)}")
    return result


def read_folder(folder: Path) -> list[dict[str, Any]]:
    """The entries of conversations that `make_conversations` wrote."""
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def right_indices(run: Path, folder: Path, images: Path) -> dict[str, Any]:
    """The share of indices, place by place, that the run's greedy answers get right."""
    answerer = RunAnswerer(str(run), GenerationConfig(device="cpu"))
    right = total = unread = 0
    for entry in read_folder(folder):
        question, answer = code_turn(entry["conversations"])
        wanted = read_indices(answer)
        row = ManifestRow(entry["image"], str(images / entry["image"]), None)
        prepared = answerer.prepare(Question(entry["id"], question, row))
        [text] = answerer.answer([prepared], 200)
        try:
            found = read_indices(text)
        except AnswerError:
            found = []
            unread += 1
        right += sum(one == two for one, two in zip(found, wanted, strict=False))
        total += len(wanted)
    return {"right": round(right / total, 4), "indices": total, "unread_answers": unread}


def most_frequent(train_folder: Path, folder: Path) -> float:
    """The share that is right where every index is the most frequent one of training."""
    seen = Counter(
        index
        for entry in read_folder(train_folder)
        for index in read_indices(code_turn(entry["conversations"])[1])
    )
    [(code, _)] = seen.most_common(1)
    wanted = [
        index
        for entry in read_folder(folder)
        for index in read_indices(code_turn(entry["conversations"])[1])
    ]
    return round(wanted.count(code) / len(wanted), 4)


def code_turn(turns: list[dict[str, str]]) -> tuple[str, str]:
    """The question for indices of a conversation, and its answer."""
    for asked, answered in zip(turns[::2], turns[1::2], strict=True):
        if "<vq start>" in answered["value"]:
            return asked["value"].replace("<image>\n", ""), answered["value"]
    raise ValueError("no question for indices")


def main() -> None:
    """Train, measure, and write the result."""
    parser = make_parser(__doc__, "vlsa")
    parser.add_argument("--num-scenes", type=int, default=128)
    parser.add_argument("--num-held-out", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="keep runs and pictures here")
    options = parser.parse_args()
    machine = describe_machine()
    torch.set_num_threads(max(1, torch.get_num_threads()))
    folder = options.folder or Path(tempfile.mkdtemp())
    write_scenes(folder / "train", FIRST_SCENE, options.num_scenes)
    write_scenes(folder / "held_out", FIRST_HELD_OUT, options.num_held_out)
    for part in ("train", "held_out"):
        make_conversations(
            str(folder / part / "conversations.json"),
            str(folder / part / "cognition"),
            CODES,
            images=str(folder / part / "images"),
        )
    images, data = folder / "train" / "images", folder / "train"
    sources: dict[VlsaStage, Path] = {
        "vlsa-1": data / "captions.json",
        "vlsa-2": data / "conversations.json",
        "vlsa-3": data / "cognition",
    }
    result: dict[str, Any] = {"num_scenes": options.num_scenes}
    for name, weight in (("with reconstruction", 1.0), ("without reconstruction", 0.0)):
        before = None
        result[name] = {}
        for stage, source in sources.items():
            output = folder / f"{name.split()[0]}-{stage}"
            result[name][stage] = run_stage(
                stage, source, images, output, before, reconstruction_weight=weight
            )
            before = output
    result["llm_loss_ratio"] = {
        stage: round(
            result["with reconstruction"][stage]["held_out_llm_loss"]
            / result["without reconstruction"][stage]["held_out_llm_loss"],
            4,
        )
        for stage in sources
    }
    plain = folder / "with-vlsa-3-no-codes"
    result["stage 3 without codes"] = run_stage(
        "vlsa-3", sources["vlsa-2"], images, plain, folder / "with-vlsa-2"
    )
    held_out = folder / "held_out"
    result["indices_right"] = {
        "before": right_indices(plain, held_out / "cognition", held_out / "images"),
        "after": right_indices(folder / "with-vlsa-3", held_out / "cognition", held_out / "images"),
        "most_frequent_index": most_frequent(data / "cognition", held_out / "cognition"),
    }
    write_result(options.output, machine, result)


if __name__ == "__main__":
    main()
