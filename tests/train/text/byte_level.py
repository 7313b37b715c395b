"""A small byte-level BPE tokenizer with Llama 3's special tokens."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
SENTENCES = (
    "a dog on the table and a red cup",
    "What is it? It is a cat.",
    "the assistant answers the user: Yes, there is a TV.",
)


CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def chatml_tokenizer() -> PreTrainedTokenizerFast:
    """Qwen's kind: the same pieces, no beginning-of-text token, nothing added to a text."""
    backend = Tokenizer.from_str(_learn())
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=CHATML[1],
        pad_token=CHATML[2],
        additional_special_tokens=list(CHATML),
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A new transformers tokenizer of the same pieces at every call; no chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_learn()),
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        additional_special_tokens=list(SPECIAL[2:]),
    )


@lru_cache
def _learn() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    begin = (SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))
    # As in Llama 3's own file: offsets lose white space, and a text gets its beginning.
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[begin]),
        ]
    )
    return tokenizer.to_str()
