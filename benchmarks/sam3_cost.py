"""What further tags cost SAM 3 once an image is encoded, and what transformers' own way costs.

`python benchmarks/sam3_cost.py`: operations of the released sizes, counted on tensors without
numbers, for images of 1008 pixels and 1 to 80 tags, every query of every tag drawn as a mask. The
text encoder is counted apart, as a tag goes through it once in a run. transformers' `Sam3Model`
takes one prompt at a time, and an image with each. A small model of random weights takes both
ways on the CPU too, by turns, to see that processor seconds follow the operations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam3Config, Sam3LiteTextConfig, Sam3LiteTextModel, Sam3Model

from pad_pipeline.models.sam3.network import Prompts, draw, encode_images, find
from pad_pipeline.models.sam3.words import LENGTH

TAGS = (1, 2, 3, 5, 10, 20, 80)
GOAL = 2.5
"""Of ten tags over one."""

SMALL: dict[str, Any] = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "image_size": 336,
            "window_size": 12,
            "global_attn_indexes": [5, 11],
        },
        "backbone_feature_sizes": [[96, 96], [48, 48], [24, 24]],
    },
    "text_config": {
        "model_type": "clip_text_model",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
    },
}
"""A narrower, shallower image encoder at a third of the side; detector and masks as released."""


def main() -> None:
    """Count, time, write and print."""
    parser = common.make_parser(__doc__, "sam3_cost")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    machine = common.describe_machine()
    torch.set_num_threads(1)
    models = {
        "sam3": (Sam3Model, Sam3Config()),
        "sam3_lite_text": (Sam3LiteTextModel, Sam3LiteTextConfig()),
    }
    counted = {}
    for name, (model_class, config) in models.items():
        with torch.device("meta"):
            counted[name] = count(model_class(config).eval())
    result = {
        "what": "operations at the released sizes, 1008 px, all 200 queries of each tag drawn",
        "goal_ten_over_one": GOAL,
        **counted,
        "small_model_on_a_cpu": time_small(arguments.repeats),
    }
    common.write_result(arguments.output, machine, result)


def count(model: Any) -> dict[str, Any]:
    """Operations in 10⁹ (a product and a sum are two), by part and by number of tags."""
    pixels = pixels_of(model, "meta")
    image = operations(lambda: encode_images(model, pixels))
    ids = torch.ones(1, LENGTH, dtype=torch.long, device="meta")
    text = operations(lambda: model.get_text_features(input_ids=ids))  # masks change no count
    features, prompts = encode_images(model, pixels), prompts_of(model, 1, "meta")
    rows = torch.zeros(1, dtype=torch.long, device="meta")
    found = find(model, features, rows, prompts)
    finding = operations(lambda: find(model, features, rows, prompts))
    drawing = operations(
        lambda: draw(model, features, rows, prompts, found.encoded_RSC, found.queries_RQC)
    )
    ours = {number: image + number * (finding + drawing) for number in TAGS}
    theirs = {number: number * (image + text + finding + drawing) for number in TAGS}
    return {
        "gigaops": {
            "image": round(image),
            "boxes of a tag": round(finding),
            "masks of a tag": round(drawing),
            "text of a tag, once in a run": round(text),
        },
        "tags_over_one": {number: round(ours[number] / ours[1], 3) for number in TAGS},
        "ten_over_one": round(ours[10] / ours[1], 3),
        "one_prompt_at_a_time_over_ours": {
            number: round(theirs[number] / ours[number], 2) for number in TAGS
        },
    }


def operations(work: Callable[[], Any]) -> float:
    """In 10⁹."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops() / 1e9


def pixels_of(model: Any, device: str) -> torch.Tensor:
    """One image of the model's size."""
    return torch.zeros(1, 3, model.config.image_size, model.config.image_size, device=device)


def is_token(number: int, device: str) -> torch.Tensor:
    """(number, LENGTH) bool: four tokens each."""
    return (torch.arange(LENGTH, device=device) < 4).expand(number, -1)


def prompts_of(model: Any, number: int, device: str) -> Prompts:
    """Some words, encoded."""
    width = model.text_projection.out_features
    return Prompts(torch.randn(number, LENGTH, width, device=device), is_token(number, device))


def time_small(repeats: int) -> dict[str, Any]:
    """Processor seconds of a small model, medians of turns, beside its operations."""
    with torch.device("meta"):
        counted = count(Sam3Model(Sam3Config(**SMALL)).eval())
    torch.manual_seed(0)
    model = Sam3Model(Sam3Config(**SMALL)).eval()
    pixels = torch.randn_like(pixels_of(model, "cpu"))
    ids = torch.ones(1, LENGTH, dtype=torch.long)

    def ours(number: int) -> None:
        features = encode_images(model, pixels)
        for first in range(0, number, 8):
            part = min(8, number - first)
            rows, prompts = torch.zeros(part, dtype=torch.long), prompts_of(model, part, "cpu")
            found = find(model, features, rows, prompts)
            draw(model, features, rows, prompts, found.encoded_RSC, found.queries_RQC)

    def theirs(number: int) -> None:
        for _ in range(number):
            model(pixel_values=pixels, input_ids=ids, attention_mask=is_token(1, "cpu").long())

    ways = {
        "1 tag": lambda: ours(1),
        "10 tags": lambda: ours(10),
        "10 tags, one prompt at a time": lambda: theirs(10),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, work in ways.items():
                began = time.process_time()
                work()
                if turn:  # the first warms up
                    seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    one, ten, apart = medians.values()
    return {
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "repeats": repeats,
        "ten_over_one": round(ten / one, 3),
        "ten_over_one_counted": counted["ten_over_one"],
        "one_prompt_at_a_time_over_ours": round(apart / ten, 2),
        "one_prompt_at_a_time_over_ours_counted": counted["one_prompt_at_a_time_over_ours"][10],
    }


if __name__ == "__main__":
    main()
