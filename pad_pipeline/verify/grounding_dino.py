"""Grounding DINO on a golden folder: the tensors and phrases to hold against the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.encode import Trace, encode_images, encode_texts
from pad_pipeline.models.grounding_dino.forward import detect_pairs
from pad_pipeline.models.grounding_dino.load import model_of, place
from pad_pipeline.models.grounding_dino.prompts import Prompt
from pad_pipeline.models.grounding_dino.state_dict import config_from_golden


@dataclass(frozen=True, slots=True)
class GoldenRun:
    """`tensors` by the names of `expected.safetensors`; `phrases` of each post-processing case.

    Phrases are glued to their score as in the original script, "dog(0.43)".
    """

    tensors: dict[str, Tensor]
    phrases: list[list[str]]


def golden_outputs(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    expected: Mapping[str, Any],
    tokenizer: Any,
    runtime: Runtime | None = None,
) -> GoldenRun:
    """Run a golden folder: its `config.json`, checkpoint, inputs and `expected.json`.

    `tokenizer` is that of the folder's `vocab.txt`; it decodes the phrases. A case with several
    captions comes out under the name `…_own_masks`: the original's own output of it is wrong (it
    mixes up the captions' masks) and is not reproduced. Raises `UserError` where the checkpoint
    does not fit.
    """
    runtime = runtime or Runtime()
    model = model_of(state, source="the golden checkpoint", config=config_from_golden(config))
    model = place(model, runtime)
    tensors: dict[str, Tensor] = {}
    for name, case in expected["cases"].items():
        trace = run_case(model, [inputs[image] for image in case["images"]], case, runtime)
        if len(set(case["captions"])) > 1:
            name += "_own_masks"
        tensors |= {f"{name}.{key}": tensor.cpu() for key, tensor in trace.items()}
    phrases = []
    for index, post in enumerate(expected.get("post_processing", ())):
        case = post["case"]
        detector = GroundingDinoDetector(
            model,
            tokenizer,
            runtime,
            box_threshold=post["box_threshold"],
            text_threshold=post["text_threshold"],
            label_mode="phrase",
        )
        prompt = Prompt(tuple(expected["cases"][case]["input_ids"][0]), (), ())
        [(boxes, scores, labels)] = detector.select(
            [prompt], tensors[f"{case}.pred_logits"], tensors[f"{case}.pred_boxes"]
        )
        tensors[f"post{index}.boxes_filt"] = torch.from_numpy(boxes)
        tensors[f"post{index}.scores"] = torch.from_numpy(scores)
        # the original cuts the score's text, it does not round it
        texts = [str(float(score))[:4] for score in scores]
        phrases.append([f"{label}({text})" for label, text in zip(labels, texts, strict=True)])
    return GoldenRun(tensors, phrases)


@torch.inference_mode()
def run_case(
    model: Any, images_CHW: Sequence[Tensor], case: Mapping[str, Any], runtime: Runtime
) -> Trace:
    """Every intermediate tensor of one case: normalised images, padded, and its `input_ids`."""
    height, width = (max(image.shape[axis] for image in images_CHW) for axis in (1, 2))
    pixels, padding = [], []
    for image in images_CHW:
        missing = (0, width - image.shape[2], 0, height - image.shape[1])
        pixels.append(F.pad(image, missing))
        padding.append(F.pad(torch.zeros(image.shape[1:], dtype=torch.bool), missing, value=True))
    blank = torch.tensor(case["attention_mask"]) == 0
    beyond = torch.stack(padding)
    trace: Trace = {}
    device = runtime.device
    images = encode_images(
        model,
        torch.stack(pixels).to(device, runtime.torch_dtype),
        beyond.to(device) if beyond.any() else None,
        trace,
    )
    texts = encode_texts(
        model,
        torch.tensor(case["input_ids"], device=device),
        blank.to(device) if blank.any() else None,
        trace,
    )
    detect_pairs(model, images, texts, trace)
    return trace
