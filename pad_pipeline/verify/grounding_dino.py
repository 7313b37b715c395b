"""Grounding DINO against a golden folder: every tensor, the kept boxes and their phrases."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.encode import (
    Images,
    Map,
    backbone_maps,
    join_levels,
    project_maps,
)
from pad_pipeline.models.grounding_dino.forward import (
    LOGIT_EPS,
    detect_pairs,
    refine_boxes,
    select_tokens,
)
from pad_pipeline.models.grounding_dino.load import (
    build_grounding_dino,
    load_tokenizer,
    to_runtime,
)
from pad_pipeline.models.grounding_dino.network import Network
from pad_pipeline.models.grounding_dino.phrases import (
    Texts,
    encode_phrases,
    encode_texts,
    lay_out,
)
from pad_pipeline.models.grounding_dino.places import Places
from pad_pipeline.models.grounding_dino.prepare import prepare_network
from pad_pipeline.models.grounding_dino.prompts import Prompt
from pad_pipeline.models.grounding_dino.state_dict import config_from_golden
from pad_pipeline.verify.rows import VerifyRow, compare_all, compare_decisions, read_json


def check_grounding_dino(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Grounding DINO: token ids, every tensor of every case, kept boxes and their phrases."""
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
    model = build_grounding_dino(
        state, source="the golden checkpoint", config=config_from_golden(config)
    )
    model = to_runtime(model, runtime)
    network = prepare_network(model)
    tensors: dict[str, Tensor] = {}
    for name, case in expected["cases"].items():
        outputs = run_case(network, [inputs[image] for image in case["images"]], case, runtime)
        if len(set(case["captions"])) > 1:
            name += "_own_masks"
        tensors |= {f"{name}.{key}": tensor.cpu() for key, tensor in outputs.items()}
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
    network: Network, images_CHW: Sequence[Tensor], case: Mapping[str, Any], runtime: Runtime
) -> dict[str, Tensor]:
    """Every recorded tensor of one case: normalised images, padded, and its `input_ids`."""
    sizes = [(image.shape[1], image.shape[2]) for image in images_CHW]
    canvas = (max(height for height, _ in sizes), max(width for _, width in sizes))
    pixels = [
        F.pad(image, (0, canvas[1] - image.shape[2], 0, canvas[0] - image.shape[1]))
        for image in images_CHW
    ]
    prompts = [
        ids[: sum(mask)]
        for ids, mask in zip(case["input_ids"], case["attention_mask"], strict=True)
    ]
    with recorded_modules(network.module) as outputs:
        maps = backbone_maps(network, torch.stack(pixels).to(runtime.device, runtime.torch_dtype))
        levels = project_maps(network, maps)
        alike = len(set(sizes)) == 1
        images = join_levels(network, levels, canvas, None if alike else sizes)
        texts = encode_texts(network, prompts)
        logits, boxes = detect_pairs(network, images, texts)
    return {
        **outputs,
        **_images(network, maps, levels, images.places),
        **_texts(network, prompts, texts),
        **_queries_and_boxes(network, outputs, images, texts),
        "pred_logits": pad_logits(network.module, logits),
        "pred_boxes": boxes,
    }


def _images(
    network: Network, maps: Sequence[Map], levels: Sequence[Tensor], places: Places
) -> dict[str, Tensor]:
    """The backbone's maps, masks and positions, and the levels made of the maps."""
    found = {f"input_proj{level}": plane for level, plane in enumerate(levels)}
    for level, (output, start) in enumerate(
        zip(maps, places.levels.starts[:, 0].tolist(), strict=False)
    ):
        num_images, num_tokens, _ = output.tokens.shape
        tokens = slice(start, start + num_tokens)
        of_level = network.module.model.level_embed[level]
        position = (places.positions[:, tokens] - of_level).expand(num_images, -1, -1)
        padding = torch.zeros(num_images, num_tokens, dtype=torch.bool, device=network.device)
        if places.padding is not None:
            padding = places.padding[:, tokens]
        found[f"backbone_feature{level}"] = output.tokens.transpose(1, 2).unflatten(2, output.shape)
        found[f"position{level}"] = position.transpose(1, 2).unflatten(2, output.shape)
        found[f"backbone_mask{level}"] = padding.unflatten(1, output.shape)
    return found


def _texts(network: Network, prompts: Sequence[Sequence[int]], texts: Texts) -> dict[str, Tensor]:
    """What the text encoder reads and gives; it runs once for each phrase."""
    layout = lay_out(prompts, network.module.config.max_text_len)
    hidden = torch.cat(encode_phrases(network, layout.phrases, projected=False))
    return {
        "text_self_attention_masks": texts.within_phrases[:, 0] == 0,
        "position_ids": torch.from_numpy(layout.positions).long(),
        "bert_last_hidden_state": hidden[torch.from_numpy(layout.places).to(hidden.device)],
        "encoded_text": texts.tokens,
    }


def pad_logits(model: Any, logits: Tensor) -> Tensor:
    """Logits RQT as the original gives them: as wide as the longest text, −inf beyond T."""
    width = model.model.config.max_text_len - logits.shape[-1]
    return F.pad(logits, (0, width), value=-math.inf)


@contextmanager
def recorded_modules(model: Any) -> Iterator[dict[str, Tensor]]:
    """What passes through the model's modules meanwhile, under the golden data's names."""
    core = model.model
    outputs: dict[str, Tensor] = {}
    hooks = []

    def on_output(module: Any, record: Any) -> None:
        hooks.append(module.register_forward_hook(lambda _m, inputs, out: record(inputs, out)))

    def keep_output(module: Any, name: str) -> None:
        on_output(module, lambda _inputs, out: outputs.__setitem__(name, out))

    def keep_input(module: Any, name: str) -> None:
        on_output(module, lambda inputs, _out: outputs.__setitem__(name, inputs[0]))

    for index, layer in enumerate(core.encoder.layers):
        # the output of the fusion is no module's, but what the next attention takes its values from
        keep_input(layer.deformable_layer.self_attn.value_proj, f"enc{index}_fusion_v")
        keep_input(layer.text_enhancer_layer.self_attn.value, f"enc{index}_fusion_l")
        keep_output(layer.text_enhancer_layer.layer_norm_after, f"enc{index}_text")
        keep_output(layer.deformable_layer.final_layer_norm, f"enc{index}_out")
    for index, layer in enumerate(core.decoder.layers):
        keep_output(layer.final_layer_norm, f"dec{index}_hidden")
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _queries_and_boxes(
    network: Network, outputs: Mapping[str, Tensor], images: Images, texts: Texts
) -> dict[str, Tensor]:
    """The chosen tokens, and the boxes and normed queries of each decoder layer."""
    model = network.module
    core, eps = model.model, LOGIT_EPS[model.config.model_type]
    last = len(core.encoder.layers) - 1
    memory, memory_text = outputs[f"enc{last}_out"], outputs[f"enc{last}_text"]
    top = select_tokens(network, memory, memory_text, images, texts)
    boxes = top.boxes.sigmoid()
    found = {
        "memory": memory,
        "memory_text": memory_text,
        "topk_scores": top.scores,
        "topk_proposals": top.indices,
        "decoder_refpoints_unsigmoid": top.boxes,
        "dec_reference0": boxes,
    }
    for index, layer in enumerate(network.decoder):
        hidden = outputs[f"dec{index}_hidden"]
        boxes = refine_boxes(layer.move_boxes, hidden, boxes, eps)
        found[f"dec{index}_hs"] = core.decoder.layer_norm(hidden)
        found[f"dec_reference{index + 1}"] = boxes
    return found
