"""Packed against padded training steps: seconds, tokens, share of the matrix rate, patch loss.

`python benchmarks/train_packing.py [--size 7b --device cuda]` takes a tower, projector and language
model with random weights and times one pass of samples whose lengths are drawn (see `LENGTHS`), by
turns: padded, packed, packed with all activations kept, and packed and compiled. The share of the
matrix rate counts the operations of the samples' own tokens, forward and backward; what
checkpointing computes again and what padding costs is none of them. The rate is that of one large
matrix product on the same device.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import common
import numpy as np
import torch
from train_step import REGIONS, build
from train_step import SIZES as STEP_SIZES

from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.packing import pack
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.flops import FlopRates, PassSize, flop_rates, packed_pass
from pad_pipeline.train.step import training_step
from pad_pipeline.train.trainer import make_optimizer

LENGTHS: dict[TrainingStage, tuple[float, float, int]] = {
    # median, sigma of the logarithm, most; assumed, not measured on LLaVA's data
    "pretrain": (18.0, 0.5, 128),
    "finetune": (220.0, 0.8, 1400),
}
"""Text tokens of a sample: log-normal, seeded."""
SIZES: dict[str, dict[str, Any]] = {
    "7b": STEP_SIZES["7b"],
    "cpu": {
        **{"tower": 2, "tower_width": 256, "image": 112},
        **{"width": 384, "inner": 1024, "layers": 4, "heads": 6, "words": 8000},
    },
    # for tests
    "tiny": {
        **{"tower": 2, "width": 64, "inner": 128, "layers": 1, "heads": 2},
        **{"words": 100},
    },
}
SAMPLES = {"7b": 32, "cpu": 4, "tiny": 2}
MICRO_BATCH = {"7b": 16, "cpu": 4, "tiny": 2}
WAYS = ("padded", "packed", "packed, activations kept", "packed, kept, compiled")
PATCH_LOSS = "packed, no patch loss"


def main() -> None:
    """Measure, write and print."""
    parser = common.make_parser(__doc__, "train_packing")
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--stages", nargs="+", choices=LENGTHS, default=["pretrain"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS[:3]))
    arguments = parser.parse_args()
    machine = common.describe_machine()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    result: dict[str, Any] = {
        "what": "one step of training, random weights, lengths drawn (assumed)",
        "seconds_are": "of the processor, one thread" if arguments.device == "cpu" else "elapsed",
        "size": arguments.size,
        "device": arguments.device,
        "matrix_rate_tflops": round(matrix_rate(arguments.device) / 1e12, 2),
    }
    for stage in arguments.stages:
        rows = measure(
            arguments.size, arguments.device, stage, arguments.repeats, arguments.ways, result
        )
        result[stage] = rows
        for row in rows:
            common.say(f"{stage}: {row}")
    common.write_result(arguments.output, machine, result)


def measure(
    size: str,
    device: str,
    stage: TrainingStage,
    repeats: int,
    ways: list[str],
    result: dict[str, Any],
) -> list[dict[str, Any]]:
    """A row for each way of `ways`, and one without the patch loss, timed by turns."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    model = build(SIZES[size], device, dtype)
    model.freeze(stage)
    config = TrainConfig(vision="", llm="", global_batch=1)
    optimizer = make_optimizer(model, config)
    texts = draw_lengths(stage, SAMPLES[size])
    tokens = model.projector.num_tokens
    lengths = [1 + tokens + text for text in texts]
    padded = [range(i, i + MICRO_BATCH[size]) for i in range(0, len(texts), MICRO_BATCH[size])]
    capacity = max(sum(lengths[i] for i in group) for group in padded)
    packs = pack(lengths, max(capacity, max(lengths)))
    rates = flop_rates(model, stage)
    own = [own_size(lengths, texts, group) for group in packs]
    batches = {
        True: [make_batch(model, size, texts, group, packed=True) for group in packs],
        False: [make_batch(model, size, texts, list(group), packed=False) for group in padded],
    }
    seconds: dict[str, list[float]] = {way: [] for way in [*ways, PATCH_LOSS]}
    memory: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for way in [*ways, PATCH_LOSS]:
            # `kept_layers` counts from the end: a large number keeps all
            model.enable_activation_checkpointing(kept_layers=999 if "kept" in way else 0)
            if "packed" in way:
                model.enable_packing(max(lengths))
            if "compiled" in way and not repeat:
                model.compile_layers()
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            began = now(device)
            training_step(
                model,
                optimizer,
                without_regions(batches[True]) if way == PATCH_LOSS else batches["packed" in way],
                beta=0.0 if way == PATCH_LOSS else 5.0,
                config=config,
                workers=OneWorker(),
                step=0,
            )
            if device == "cuda":
                torch.cuda.synchronize()
                memory[way] = torch.cuda.max_memory_allocated() / 1e9
            if repeat:
                seconds[way].append(now(device) - began)
    rate = result["matrix_rate_tflops"] * 1e12
    return [
        row(way, seconds, memory, sum(lengths), batches["packed" in way], rates, own, rate)
        for way in [*ways, PATCH_LOSS]
    ]


def row(
    way: str,
    seconds: dict[str, list[float]],
    memory: dict[str, float],
    tokens: int,
    batches: list[Batch],
    rates: FlopRates,
    own: list[PassSize],
    rate: float,
) -> dict[str, Any]:
    """The figures of one way beside those of the first."""
    median = statistics.median(seconds[way])
    first = next(iter(seconds))
    ratios = [a / b for a, b in zip(seconds[first], seconds[way], strict=True)]
    computed = sum(batch.input_ids_BT.numel() for batch in batches)
    found = {
        "way": way,
        "seconds": round(median, 4),
        "times_as_fast_as_" + first: round(statistics.median(ratios), 3),
        "passes": len(batches),
        "tokens": tokens,
        "computed_tokens": computed,
        "tokens_per_s": round(tokens / median),
        "share_of_matrix_rate": round(rates.total(own) / median / rate, 4),
        "patch_loss_share_of_flops": float(f"{rates.patch_loss_share(own):.2g}"),
        "memory_gb": round(memory[way], 1) if way in memory else None,
    }
    if way == PATCH_LOSS and "packed" in seconds:
        pairs = zip(seconds["packed"], seconds[way], strict=True)
        found["patch_loss_share_of_time"] = round(statistics.median(1 - b / a for a, b in pairs), 4)
    return found


def draw_lengths(stage: TrainingStage, number: int) -> list[int]:
    """Text tokens of samples."""
    median, sigma, most = LENGTHS[stage]
    drawn = np.random.default_rng(0).lognormal(np.log(median), sigma, number)
    return [int(each) for each in drawn.clip(2, most)]


def own_size(lengths: list[int], texts: list[int], group: list[int]) -> PassSize:
    """Samples without padding."""
    return packed_pass(
        [lengths[i] for i in group],
        images=len(group),
        targets=sum(texts[i] for i in group),
        regions=len(group) * REGIONS,
    )


def make_batch(
    model: VisionLanguageModel, size: str, texts: list[int], group: list[int], *, packed: bool
) -> Batch:
    """Samples of one image, a text that is learnt and a few regions each."""
    tokens, words = model.projector.num_tokens, SIZES[size]["words"]
    side = model.vision.config.image_size
    lengths = [1 + tokens + texts[i] for i in group]
    longest = max(lengths)
    generator = torch.Generator().manual_seed(group[0])
    places = torch.arange(longest)
    there = places < torch.tensor(lengths)[:, None]
    image_mask = (places >= 1) & (places < 1 + tokens) & there
    ids = torch.randint(3, words, there.shape, generator=generator) * there * ~image_mask
    labels = ids.masked_fill(~there | (places < 1 + tokens), -100)
    coverage = torch.zeros(len(group), REGIONS, tokens)
    for region in range(REGIONS):
        first = region * tokens // REGIONS
        coverage[:, region, first : first + tokens // 10] = 1
    rows = (ids, labels, there, image_mask)
    ids, labels, there, image_mask = [each[there][None] for each in rows] if packed else rows
    return Batch(
        sample_ids=[str(index) for index in group],
        input_ids_BT=ids,
        labels_BT=labels,
        attention_BT=there,
        image_mask_BT=image_mask,
        pixels_ICHW=torch.randn(len(group), 3, side, side, generator=generator),
        coverage_IRS=coverage,
        region_mask_IR=torch.ones(len(group), REGIONS, dtype=torch.bool),
        label_index_IR=torch.arange(REGIONS).repeat(len(group), 1),
        label_ids=[[5, 6], [7], [8, 9, 10], [11]],
        packed_lengths=tuple(lengths) if packed else (),
    )


def without_regions(batches: list[Batch]) -> list[Batch]:
    """The same samples for the baseline: nothing of the patch loss is computed."""
    return [
        replace(
            batch,
            coverage_IRS=batch.coverage_IRS[:, :0],
            region_mask_IR=batch.region_mask_IR[:, :0],
            label_index_IR=batch.label_index_IR[:, :0],
            label_ids=[],
        )
        for batch in batches
    ]


def now(device: str) -> float:
    """Seconds; on a CPU those of the processor, which other programs do not lengthen."""
    return time.perf_counter() if device == "cuda" else time.process_time()


def matrix_rate(device: str) -> float:
    """Operations per second of one large matrix product in the data type of the passes."""
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (1536, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        if device == "cuda":
            torch.cuda.synchronize()
        began = now(device)
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(now(device) - began)
    return 2 * side**3 / statistics.median(seconds[2:])


if __name__ == "__main__":
    main()
