"""The cost of the patch loss, of Ray Train and of waiting for data, on one training step.

`python benchmarks/train_step.py [--device cuda]` takes a tower, projector and language model with
random weights, the largest that the machine holds in reasonable time (`--size`), and times steps
with and without the patch loss in turn. With `--ray` it trains the embedded models on scenes
through Ray Train and through the bare loop.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from pad_pipeline.train.batch import Batch
from pad_pipeline.train.config import PRESETS, TrainConfig
from pad_pipeline.train.loop import make_optimizer
from pad_pipeline.train.model import VisionLanguageModel
from pad_pipeline.train.projectors import build_projector
from pad_pipeline.train.step import OneWorker, training_step

SIZES: dict[str, dict[str, Any]] = {
    # CLIP ViT-L/14-336 and Vicuna-7B
    "7b": {
        **{"tower": 24, "width": 4096, "inner": 11008, "layers": 32, "heads": 32},
        **{"words": 32000, "batch": 4},
    },
    # a few layers of each, so that many steps can be timed: the patch loss's share is larger here
    "cpu": {
        **{"tower": 4, "width": 1024, "inner": 2816, "layers": 2, "heads": 16},
        **{"words": 8000, "batch": 2},
    },
}
REGIONS = 4
CAPTION_TOKENS = 16
RAY_PAIRS = 8


def main() -> None:
    """Measure, write and print."""
    parser = common.make_parser(__doc__, "train_step")
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--no-ray", action="store_true")
    arguments = parser.parse_args()
    machine = common.describe_machine()
    result: dict[str, Any] = {"what": "one optimiser step of stage 1, random weights"}
    result["patch_loss"] = patch_loss_cost(arguments.size, arguments.device, arguments.repeats)
    common.say(str(result["patch_loss"]))
    if not arguments.no_ray:
        cores = os.cpu_count() or 1
        for name, threads in {"ray": max(1, cores - 1), "ray_every_core": cores}.items():
            result[name] = ray_cost(threads)
            common.say(f"{name}: {result[name]}")
    common.write_result(arguments.output, machine, result)


def patch_loss_cost(size: str, device: str, repeats: int) -> dict[str, Any]:
    """Seconds per step with and without the patch loss, in turn."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    model = build(SIZES[size], device, dtype)
    config = TrainConfig(vision="", llm="", global_batch=1)
    # the baseline's batches have no regions: nothing of the patch loss is computed
    batches = {
        beta: make_batch(
            model, SIZES[size]["batch"], SIZES[size]["words"], num_regions=REGIONS if beta else 0
        ).to(device)
        for beta in (0.0, 5.0)
    }
    optimizer = make_optimizer(model, config)
    seconds: dict[float, list[float]] = {0.0: [], 5.0: []}
    for repeat in range(repeats + 1):
        # each goes first by turns
        for beta in sorted(batches, reverse=bool(repeat % 2)):
            batch = batches[beta]
            began = time.perf_counter()
            figures = training_step(
                model,
                optimizer,
                [batch],
                beta=beta,
                config=dataclasses.replace(config, patch_weight=beta),
                workers=OneWorker(),
                step=0,
            )
            assert bool(figures.num_regions) == bool(beta)
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds[beta].append(time.perf_counter() - began)
    without, with_loss = (statistics.median(seconds[beta]) for beta in (0.0, 5.0))
    ratios = [b / a for a, b in zip(seconds[0.0], seconds[5.0], strict=True)]
    return {
        "size": size,
        "device": device,
        "dtype": str(dtype),
        "batch": SIZES[size]["batch"],
        "caption_only_s": round(without, 3),
        "with_patch_loss_s": round(with_loss, 3),
        "ratio_of_pairs": round(statistics.median(ratios), 4),
        "goal_ratio": 1.02,
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1)
        if device == "cuda"
        else None,
    }


def build(size: dict[str, Any], device: str, dtype: torch.dtype) -> VisionLanguageModel:
    """CLIP ViT-L/14 at 336, LLaVA's projector, a Llama of this size; random weights."""
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=size["tower"],
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    llm = LlamaConfig(
        vocab_size=size["words"],
        hidden_size=size["width"],
        intermediate_size=size["inner"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["heads"],
    )
    with torch.device(device):
        torch.set_default_dtype(dtype)
        tower, words = CLIPVisionModel(vision), LlamaForCausalLM(llm)
        torch.set_default_dtype(torch.float32)
        projector = build_projector("mlp", vision_width=1024, llm_width=size["width"], grid=24)
    model = VisionLanguageModel(tower, projector, words, compute_dtype=dtype)
    model.enable_activation_checkpointing()
    return model.train()


def make_batch(model: VisionLanguageModel, number: int, words: int, num_regions: int) -> Batch:
    """Samples of one image, a caption, and a few regions each."""
    tokens = model.projector.num_tokens
    length = 1 + tokens + CAPTION_TOKENS
    ids = torch.randint(3, words, (number, length))
    image_mask = torch.zeros(number, length, dtype=torch.bool)
    image_mask[:, 1 : 1 + tokens] = True
    labels = ids.clone()
    labels[:, : 1 + tokens] = -100
    coverage = torch.zeros(number, num_regions, tokens)
    for region in range(num_regions):
        coverage[:, region, region * 100 : region * 100 + 60] = 1
    return Batch(
        sample_ids=[str(index) for index in range(number)],
        input_ids_BT=ids.masked_fill(image_mask, 0),
        labels_BT=labels,
        attention_BT=torch.ones(number, length, dtype=torch.bool),
        image_mask_BT=image_mask,
        pixels_ICHW=torch.randn(number, 3, 336, 336),
        image_index=torch.arange(number),
        coverage_IRS=coverage,
        region_mask_IR=torch.ones(number, num_regions, dtype=torch.bool),
        label_index_IR=torch.arange(num_regions).repeat(number, 1),
        label_ids=[[5, 6], [7], [8, 9, 10], [11]][:num_regions],
    )


def ray_cost(threads: int) -> dict[str, Any]:
    """Steps per second through Ray Train and in this process, on the embedded models, in turn.

    With one thread on two cores Ray's own processes have a core to themselves, as on a machine with
    a GPU; where the models compute on every core, the two share. The median step counts: a run has
    a few that something else on the machine took part of.
    """
    from pad_pipeline.demo import write_scenes
    from pad_pipeline.train.logs import read_metrics
    from pad_pipeline.train.loop import train
    from pad_pipeline.train.on_ray import train_on_ray
    from pad_pipeline.train.run_files import open_run

    config = dataclasses.replace(
        PRESETS["pretrain"]["demo"](),
        global_batch=32,
        micro_batch=32,
        epochs=4,
        num_validation=0,
        checkpoint_every=10_000,
        loggers=(),
        device="cpu",
        threads=threads,
    )
    torch.set_num_threads(threads)
    # Ray gives its workers a lower priority, so that whatever else runs would go before.
    os.environ.setdefault("RAY_worker_niceness", "0")
    rates: dict[str, list[float]] = {"bare": [], "ray": []}
    waiting: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder, num_images=256, seed=0)
        source, images = str(folder / "captions.json"), str(folder / "images")
        for repeat in range(RAY_PAIRS):
            # each goes first by turns
            for way in sorted(rates, reverse=bool(repeat % 2)):
                url = str(folder / f"{way}-{repeat}")
                run = open_run(url, "pretrain", config, source, images, None)
                if way == "bare":
                    train(run, config, OneWorker())
                else:
                    train_on_ray(run, config)
                lines = read_metrics(url)[4:]
                rates[way].append(1 / statistics.median(line["step_s"] for line in lines))
                waiting.append(statistics.median(line["waiting_share"] for line in lines))
    pairs = [ray / bare for bare, ray in zip(rates["bare"], rates["ray"], strict=True)]
    return {
        "threads": threads,
        "bare_steps_per_s": [round(rate, 2) for rate in rates["bare"]],
        "ray_steps_per_s": [round(rate, 2) for rate in rates["ray"]],
        "ratio": round(statistics.median(pairs), 3),
        "ratio_of_pairs": [round(pair, 3) for pair in pairs],
        "goal_ratio": 0.95,
        "waiting_share": round(statistics.median(waiting), 4),
        "goal_waiting_share": 0.05,
    }


if __name__ == "__main__":
    main()
