"""The cost of the patch loss, of Ray Train and of waiting for data, on one training step.

`python benchmarks/train_step.py [--device cuda]` takes a tower, projector and language model with
random weights, the largest that the machine holds in reasonable time (`--size`), and times steps
with and without the patch loss in turn. With `--ray` it trains the embedded models on scenes
through Ray Train and through the bare loop.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import PRESETS, TrainConfig
from pad_pipeline.train.run.folder import Run
from pad_pipeline.train.step import training_step
from pad_pipeline.train.trainer import make_optimizer

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
WARM_UP_STEPS = 4
TURN_TIMEOUT_S = 300.0


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
            metrics = training_step(
                model,
                optimizer,
                [batch],
                beta=beta,
                config=dataclasses.replace(config, patch_weight=beta),
                workers=OneWorker(),
                step=0,
            )
            assert bool(metrics.num_regions) == bool(beta)
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
    """CLIP ViT-L/14 at 336 unless `size` says less, LLaVA's projector, a Llama; random weights."""
    vision = CLIPVisionConfig(
        hidden_size=size.get("tower_width", 1024),
        intermediate_size=4 * size.get("tower_width", 1024),
        num_hidden_layers=size["tower"],
        num_attention_heads=16,
        image_size=size.get("image", 336),
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
        projector = build_projector(
            "mlp",
            vision_width=vision.hidden_size,
            llm_width=size["width"],
            grid=size.get("image", 336) // 14,
        )
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
        coverage_IRS=coverage,
        region_mask_IR=torch.ones(number, num_regions, dtype=torch.bool),
        label_index_IR=torch.arange(num_regions).repeat(number, 1),
        label_ids=[[5, 6], [7], [8, 9, 10], [11]][:num_regions],
    )


def ray_cost(threads: int) -> dict[str, Any]:
    """A step through Ray Train beside the same step in a plain process, on the embedded models.

    Both loops run at the same time and step by turns, so that what the machine does meanwhile falls
    on both. With one thread on two cores Ray's own processes have a core to themselves, as on a
    machine with a GPU; where the models compute on every core, the two share.
    """
    from pad_pipeline.scenes.writer import write_scenes
    from pad_pipeline.train.run import on_ray
    from pad_pipeline.train.run.folder import open_run
    from pad_pipeline.train.run.metrics_file import read_metrics

    config = dataclasses.replace(
        PRESETS["pretrain"]["demo"](),
        global_batch=32,
        micro_batch=32,
        epochs=8,
        num_validation=0,
        checkpoint_every=10_000,
        loggers=(),
        device="cpu",
        threads=threads,
    )
    # Ray gives its workers a lower priority, so that whatever else runs would go before.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder, num_images=256, seed=0)
        source, images = str(folder / "captions.json"), str(folder / "images")
        runs = {
            way: open_run(str(folder / way), "pretrain", config, source, images, None)
            for way in ("bare", "ray", "alone")
        }
        turns = {way: Turns(str(folder), way) for way in ("bare", "ray")}
        bare = multiprocessing.get_context("spawn").Process(
            target=train_bare, args=(runs["bare"], config, turns["bare"])
        )
        work, on_ray._work = on_ray._work, turns["ray"].of(on_ray._work)
        try:
            bare.start()
            on_ray.train_on_ray(runs["ray"], config)
            bare.join()
        finally:
            on_ray._work = work
            bare.kill()
        seconds = {way: one.seconds()[WARM_UP_STEPS:] for way, one in turns.items()}
        # by turns, the next batch has twice the time to get ready
        train_bare(runs["alone"], config)
        waiting = [line["waiting_share"] for line in read_metrics(runs["alone"].url)]
    pairs = [b / r for b, r in zip(seconds["bare"], seconds["ray"], strict=True)]
    quarters = statistics.quantiles(pairs, n=4)
    return {
        "threads": threads,
        "steps": len(pairs),
        "bare_s": round(statistics.median(seconds["bare"]), 4),
        "ray_s": round(statistics.median(seconds["ray"]), 4),
        "ratio": round(statistics.median(pairs), 3),
        "ratio_of_sums": round(sum(seconds["bare"]) / sum(seconds["ray"]), 3),
        "quartiles_of_pairs": [round(quarters[0], 3), round(quarters[2], 3)],
        "goal_ratio": 0.95,
        "waiting_share": round(statistics.median(waiting[WARM_UP_STEPS:]), 4),
        "goal_waiting_share": 0.05,
    }


def train_bare(run: Run, config: TrainConfig, turns: Turns | None = None) -> None:
    """The loop without Ray, in this process."""
    torch.set_num_threads(config.threads)
    if turns is None:
        train(run, config, OneWorker())
    else:
        turns.of(train)(run, config, OneWorker())


@dataclass(frozen=True)
class Turns:
    """Has two loops in two processes step by turns, and keeps the seconds of each step.

    A step is all that is between two calls of `training_step`: batch, step, metrics, files.
    """

    folder: str
    name: str

    def of(self, work: Callable[..., Any]) -> Callable[..., None]:
        """`work`, which trains, with its steps by turns."""

        def by_turns(*arguments: Any) -> None:
            from pad_pipeline.train import loop

            step, began_s = loop.training_step, 0.0

            def in_turn(*values: Any, **options: Any) -> Any:
                nonlocal began_s
                if began_s:
                    self._note(time.perf_counter() - began_s)
                    self._pass_on()
                self._await()
                began_s = time.perf_counter()
                return step(*values, **options)

            loop.training_step = in_turn
            try:
                work(*arguments)
            finally:
                self._pass_on()
                loop.training_step = step

        return by_turns

    def seconds(self) -> list[float]:
        """Of every step but the last."""
        return [float(line) for line in self._file.read_text().split()]

    @property
    def _file(self) -> Path:
        return Path(self.folder) / f"{self.name}.seconds"

    def _note(self, seconds: float) -> None:
        with self._file.open("a") as file:
            file.write(f"{seconds}\n")

    def _pass_on(self) -> None:
        aside = Path(self.folder) / f"{self.name}.turn"
        aside.write_text(self.name)
        aside.replace(Path(self.folder) / "last")

    def _await(self) -> None:
        """Wait until the other has stepped last; the loop through Ray begins."""
        last = Path(self.folder) / "last"
        end_s = time.monotonic() + TURN_TIMEOUT_S
        while (last.read_text() if last.exists() else "bare") == self.name:
            if time.monotonic() > end_s:
                raise TimeoutError(f"the other loop has not stepped for {TURN_TIMEOUT_S} s")
            time.sleep(0.001)


if __name__ == "__main__":
    main()
