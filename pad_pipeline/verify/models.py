"""The comparisons of `verify` for each model's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.verify.rows import (
    Check,
    VerifyRow,
    compare,
    compare_all,
    compare_decisions,
    compare_packed_masks,
    read_json,
)


def check_ram(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """RAM and RAM++: every tensor from the patches to the logits, and which tags fire."""
    from pad_pipeline.models.ram.network import golden_outputs

    model = golden_ram(directory).to(runtime.device, runtime.torch_dtype)
    pixels = load_file(directory / "inputs.safetensors")["image"]
    pixels = pixels.to(runtime.device, runtime.torch_dtype)
    with torch.inference_mode():
        found = golden_outputs(model, pixels)
    rows = compare_all(found, load_file(directory / "expected.safetensors"), tolerance)
    names = [[model.config.tags[i] for i in row.nonzero()[:, 0]] for row in found["fired"]]
    wanted = read_json(directory / "expected.json").get("tags")
    if wanted is not None:
        rows.append(compare_decisions("fired tags of each image", names, wanted))
    return rows


def golden_ram(directory: Path) -> Any:
    """The `RecognizeAnything` of a golden folder."""
    from pad_pipeline.models.ram.config import config_from_golden
    from pad_pipeline.models.ram.state_dict import build_ram, convert_ram_checkpoint

    config = config_from_golden(read_json(directory / "config.json"))
    checkpoint = directory / "checkpoint.safetensors"
    state = convert_ram_checkpoint(read_checkpoint(checkpoint), config, source=str(checkpoint))
    return build_ram(config, state, source=str(checkpoint))


def check_grounding_dino(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Grounding DINO: token ids, every tensor of every case, kept boxes and their phrases."""
    from pad_pipeline.models.grounding_dino.load import load_tokenizer
    from pad_pipeline.verify.grounding_dino import golden_outputs

    recorded = read_json(directory / "expected.json")
    cases: Mapping[str, Any] = recorded["cases"]
    tokenizer = load_tokenizer(directory / "vocab.txt")
    rows = [
        compare_decisions(
            f"{name}.input_ids",
            tokenizer(case["captions"], padding="longest", verbose=False)["input_ids"],
            case["input_ids"],
        )
        for name, case in cases.items()
    ]
    run = golden_outputs(
        read_json(directory / "config.json"),
        read_checkpoint(directory / "checkpoint.safetensors"),
        load_file(directory / "inputs.safetensors"),
        recorded,
        tokenizer,
        runtime,
    )
    unlike = [name for name, case in cases.items() if len(set(case["captions"])) > 1]
    mixed = "the original hands these captions' masks to the wrong heads; see …_own_masks"
    rows += compare_all(
        run.tensors,
        load_file(directory / "expected.safetensors"),
        tolerance,
        reasons={f"{name}.": mixed for name in unlike},
    )
    for index, post in enumerate(recorded.get("post_processing", ())):
        rows.append(
            compare_decisions(
                f"post{index}.phrases",
                [without_score(phrase) for phrase in run.phrases[index]],
                [without_score(phrase) for phrase in post["phrases"]],
            )
        )
    return rows


def without_score(phrase: str) -> str:
    """The phrase "dog(0.43)" as "dog"; the scores are compared as numbers."""
    return re.sub(r"\(-?[\d.e-]*\)$", "", phrase)


def check_sam(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """SAM: every tensor of every image, and the masks of a call of `segment`, pixel by pixel."""
    from pad_pipeline.verify.sam import golden_outputs

    cases: Mapping[str, Any] = read_json(directory / "expected.json")["cases"]
    sizes = {name: tuple(case["original_size_hw"]) for name, case in cases.items()}

    def masks(name: str, found: Any, wanted: Tensor) -> VerifyRow:
        size = sizes[name.removesuffix(".masks_packed")]
        return compare_packed_masks(name, found, wanted, [size] * len(wanted))

    def grey_levels(name: str, found: Any, wanted: Tensor) -> VerifyRow:
        return compare(name, found.float(), wanted.float(), 1.0, "grey levels")

    def first_boxes(name: str, found: Any, wanted: Tensor) -> VerifyRow:
        return compare(name, found[: len(wanted)], wanted, tolerance)

    return compare_all(
        golden_outputs(directory, runtime),
        load_file(directory / "expected.safetensors"),
        tolerance,
        special={
            ".masks_packed": masks,
            ".resized_image_u8": grey_levels,
            "_multi": first_boxes,
            "_first2": first_boxes,
        },
    )


CHECKS: Mapping[str, Check] = {
    "ram": check_ram,
    "ram_plus": check_ram,
    "groundingdino": check_grounding_dino,
    "sam": check_sam,
}
"""By `model` of the folder's config.json."""
