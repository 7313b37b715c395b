"""Low-rank adapters, trained in place of the language model's weights."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.train.model.vlm import VisionLanguageModel


def four_bits(compute_dtype: torch.dtype) -> Any:
    """How transformers loads a language model in 4 bits: NF4 and quantised scales, as in QLoRA.

    Source: Dettmers et al. 2023. Raises `UserError` where bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "a language model in 4 bits needs bitsandbytes: pip install bitsandbytes, or train "
            "without ",
            Setting("quantize_llm"),
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def add_lora(
    model: VisionLanguageModel, rank: int = 128, alpha: float = 256.0, dropout: float = 0.05
) -> None:
    """Give the language model low-rank adapters on all linear layers but the output, and train
    these (float32) beside the projector in place of its weights.

    LLaVA-1.5's values are the defaults. Raises `UserError` where peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "low-rank adapters need peft: pip install 'pad-pipeline[train]', or train without ",
            Setting("lora_rank"),
        ) from error
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType] - any number will do
        lora_dropout=dropout,
        bias="none",
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model.llm = get_peft_model(model.llm, config)
    model.freeze("finetune")
