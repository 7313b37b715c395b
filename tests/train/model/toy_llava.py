"""Small LLaVAs: one of our own sizes, and the golden set's with its weights and batches."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from pad_pipeline.models.base import load_strictly
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.model.compatibility import patch_grid
from pad_pipeline.train.model.projectors import build_projector, llava_state
from pad_pipeline.train.model.vlm import VisionLanguageModel
from tests.golden_data import golden_dir


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=0, atol=tolerance)


def settings() -> tuple[CLIPVisionConfig, LlamaConfig]:
    """The sizes of the toy LLaVA."""
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
    )
    llama = LlamaConfig(
        vocab_size=800,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )
    return vision, llama


def empty_model(kind: str = "mlp", **changes: Any) -> VisionLanguageModel:
    """A model of our own sizes with random weights."""
    return built(*settings(), kind, **changes)


def built(
    vision: CLIPVisionConfig, llama: LlamaConfig, kind: str = "mlp", **changes: Any
) -> VisionLanguageModel:
    projector = build_projector(
        kind,  # pyright: ignore[reportArgumentType]
        vision_width=vision.hidden_size,
        llm_width=llama.hidden_size,
        grid=patch_grid(vision),
        num_tokens=4,
        hidden_width=16,
    )
    return VisionLanguageModel(
        CLIPVisionModel(vision), projector, LlamaForCausalLM(llama), **changes
    )


def golden_settings() -> tuple[CLIPVisionConfig, LlamaConfig]:
    """The sizes of the original LLaVA of the golden set."""
    values = json.loads((golden_dir("llava_tiny") / "config.json").read_text())
    vision = CLIPVisionConfig(**values["vision"])
    known = LlamaConfig().to_dict()
    return vision, LlamaConfig(**{name: value for name, value in values.items() if name in known})


def llava_keys(model: VisionLanguageModel) -> dict[str, str]:
    """Names of an original LLaVA checkpoint -> names in `model.state_dict()`."""
    prefixes = {
        "vision.": "model.vision_tower.vision_tower.vision_model.",
        "projector.network.": next(iter(llava_state(model.projector))).partition(
            next(iter(model.projector.network.state_dict()))
        )[0],
        "llm.": "",
    }
    keys = {}
    for name in model.state_dict():
        prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
        keys[prefixes[prefix] + name.removeprefix(prefix)] = name
    return keys


def load_llava_checkpoint(model: VisionLanguageModel, state: dict[str, Tensor]) -> None:
    """Copy an original LLaVA checkpoint, every weight of it, into `model`."""
    keys = llava_keys(model)
    renamed = {keys.get(name, name): tensor for name, tensor in state.items()}
    load_strictly(model, renamed, source="llava_tiny")


def llava_tiny() -> VisionLanguageModel:
    """The original LLaVA of the golden set as our model."""
    model = built(*golden_settings())
    state = load_file(golden_dir("llava_tiny") / "checkpoint.safetensors")
    load_llava_checkpoint(model, state)
    return model


def expanded(
    ids_BT: Tensor,
    labels_BT: Tensor,
    attention_BT: Tensor,
    images: Tensor,
    num_tokens: int,
    length: int = 10**9,
) -> Batch:
    """What the original's ids and one image of `num_tokens` per sample are for our model."""
    rows: list[tuple[list[int], list[int], list[bool]]] = []
    image_index = []
    for sample, (ids, labels, there) in enumerate(
        zip(ids_BT.tolist(), labels_BT.tolist(), attention_BT.tolist(), strict=True)
    ):
        row: tuple[list[int], list[int], list[bool]] = ([], [], [])
        for token, label, here in zip(ids, labels, there, strict=True):
            if here and token == IMAGE_TOKEN_INDEX:
                parts = [0] * num_tokens, [IGNORE_INDEX] * num_tokens, [True] * num_tokens
                image_index.append(sample)
            else:
                parts = [token] * here, [label] * here, [False] * here
            for values, more in zip(row, parts, strict=True):
                values += more
        rows.append((row[0][:length], row[1][:length], row[2][:length]))
    width = max(len(row[0]) for row in rows)

    def padded(column: int, fill: int) -> Tensor:
        return torch.tensor([[*row[column], *[fill] * (width - len(row[0]))] for row in rows])

    index = torch.tensor(image_index, dtype=torch.long)
    return Batch(
        sample_ids=[str(i) for i in range(len(rows))],
        input_ids_BT=padded(0, 0),
        labels_BT=padded(1, IGNORE_INDEX),
        image_mask_BT=padded(2, False).bool(),
        attention_BT=torch.tensor([[i < len(row[0]) for i in range(width)] for row in rows]),
        pixels_ICHW=images[index],
        coverage_IRS=torch.zeros(len(index), 0, num_tokens),
        region_mask_IR=torch.zeros(len(index), 0, dtype=torch.bool),
        label_index_IR=torch.zeros(len(index), 0, dtype=torch.long),
        label_ids=[],
    )


def random_batch(*, images: bool = True) -> Batch:
    """Three samples of 9, 12 and 5 tokens, all but the second with an image if at all."""
    vision, llama = settings()
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([[9], [12], [5]])
    ids = torch.randint(3, llama.vocab_size, (3, 12), generator=generator)
    if images:
        ids[0, 1] = ids[2, 4] = IMAGE_TOKEN_INDEX
    labels = ids.masked_fill((ids == IMAGE_TOKEN_INDEX) | (torch.arange(12) < 3), IGNORE_INDEX)
    side: Any = vision.image_size
    pixels = torch.randn(3, 3, side, side, generator=generator)
    return expanded(ids, labels, torch.arange(12) < lengths, pixels, patch_grid(vision) ** 2)


def golden_case(name: str) -> tuple[Batch, Tensor, dict[str, Tensor], dict[str, Any]]:
    """The batch of a case, all its images, the expected tensors and numbers."""
    folder = golden_dir("llava_tiny")
    inputs = load_file(folder / "inputs.safetensors")
    numbers = json.loads((folder / "expected.json").read_text())["cases"][name]
    source = "sft" if name == "sft_cut" else name
    images = inputs[f"{source}.images"]
    batch = expanded(
        inputs[f"{source}.input_ids"],
        inputs[f"{source}.labels"],
        inputs[f"{source}.attention_mask"],
        images,
        patch_grid(golden_settings()[0]) ** 2,
        length=numbers["max_length_after_expansion"],
    )
    expected = {
        key.removeprefix(f"{name}."): value
        for key, value in load_file(folder / "expected.safetensors").items()
        if key.startswith(f"{name}.")
    }
    return batch, images, expected, numbers


def gradients(model: VisionLanguageModel) -> dict[str, Tensor]:
    """Gradients under the original's names."""
    parameters = dict(model.named_parameters())
    return {
        name: grad
        for name, ours in llava_keys(model).items()
        if ours in parameters and (grad := parameters[ours].grad) is not None
    }
