"""Exports of every family of language models chat in transformers as they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    CLIPVisionModel,
    LlamaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX
from pad_pipeline.train.model.export import export_run_model
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.text.encode import encode_conversation
from tests.train.model.test_export import chat, our_logits, photo, pixels_of, talk, their_ids
from tests.train.model.toy_llava import settings
from tests.train.text.families import FAMILIES, family_tokenizer

CONFIGS: dict[str, Any] = {
    "llama-3": LlamaConfig,
    "vicuna": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
}
TEXTS = ("What is it?", "A red cup.", "And behind it?", "A table.")


def family_model(family: str, tokenizer: Any) -> VisionLanguageModel:
    """A small model of the family with random weights; Qwen2 and 3 with tied embeddings."""
    torch.manual_seed(7)
    vision, _ = settings()
    config = CONFIGS[family](
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **({"head_dim": 16} if family != "qwen2" else {}),
        tie_word_embeddings=family.startswith("qwen"),
    )
    projector = build_projector("mlp", vision_width=32, llm_width=64, grid=4)
    llm = AutoModelForCausalLM.from_config(config)
    return VisionLanguageModel(CLIPVisionModel(vision), projector, llm).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_chats_with_its_familys_format(tmp_path: Path, family: str) -> None:
    tokenizer = family_tokenizer(family)
    model = family_model(family, tokenizer)
    lines = export_run_model(
        model, tokenizer, tmp_path / "out", template="tokenizer", llm_trained=True
    )
    assert "the chat template writes conversations as training did" in lines
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    whole = encode_conversation(
        tokenizer, talk(f"<image>\n{TEXTS[0]}", *TEXTS[1:]), "tokenizer", has_image=True
    )
    text = processor.apply_chat_template(chat(*TEXTS), tokenize=False)
    inputs = processor(images=Image.fromarray(photo()), text=text, return_tensors="pt")
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    ids = their_ids(whole.input_ids, loaded.config.image_token_id, 16)
    assert inputs["input_ids"].tolist() == ids.tolist()
    with torch.no_grad():
        logits = loaded(**inputs).logits[0, :, : len(tokenizer)]
        ours = our_logits(model, whole.input_ids, pixels_of(photo(), "crop"))
    assert IMAGE_TOKEN_INDEX in whole.input_ids
    torch.testing.assert_close(logits, ours, rtol=0, atol=1e-4)
    asked = processor.apply_chat_template(
        chat(*TEXTS[:3]), add_generation_prompt=True, tokenize=False
    )
    assert text.startswith(asked) or family == "mistral"
    prompt = processor(images=Image.fromarray(photo()), text=asked, return_tensors="pt")
    answer = loaded.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
