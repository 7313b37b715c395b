"""A second small language model, whose tokenizer is of another kind than the embedded one's.

The embedded one has SentencePiece's pieces (Vicuna's kind); this one has byte-level BPE (that of
Llama 3). It is trained on captions in a minute or less; it knows nothing else.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pad_pipeline.models.pretrained import quiet
from pad_pipeline.train.constants import IGNORE_INDEX

logger = logging.getLogger(__name__)

_BEGIN, _END = "<|begin_of_text|>", "<|end_of_text|>"
_NUM_PIECES = 768
_BATCH, _LEARNING_RATE = 32, 3e-3


def learn_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of these texts; it puts its beginning-of-text token in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_NUM_PIECES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[_BEGIN, _END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(_BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, begin)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=_BEGIN, eos_token=_END)


def byte_level_llm(
    texts: Sequence[str], *, num_steps: int = 400, seed: int = 0
) -> tuple[dict[str, bytes], float]:
    """Tokenizer and model trained on `texts`: the files to load them from, the last step's loss."""
    tokenizer: Any = learn_tokenizer(texts)
    torch.manual_seed(seed)
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    rows = [torch.tensor(tokenizer(f"{text}\n").input_ids) for text in texts]
    optimizer = torch.optim.AdamW(llm.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=num_steps, pct_start=0.1
    )
    last = math.nan
    for _ in range(num_steps):
        chosen = [rows[int(place)] for place in torch.randint(len(rows), (_BATCH,))]
        ids_BT = torch.nn.utils.rnn.pad_sequence(
            chosen, batch_first=True, padding_value=IGNORE_INDEX
        )
        logits = llm(input_ids=ids_BT.clamp(min=0)).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(llm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        last = loss.item()
    logger.info("byte-level language model: loss %.3f after %d steps", last, num_steps)
    with quiet(), TemporaryDirectory() as folder:
        llm.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}, last
