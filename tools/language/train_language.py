"""Training of the embedded language model: captions, plain sentences, conversations.

A few captions come after hints of what they say: the words of the kinds in random order. From these
and from conversations the model learns to make some use of what stands before a text. No image
takes part, and the order of hints says nothing about where things are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from tools.annotators.training_loop import Schedule, fit
from tools.language import corpus
from tools.language.tokenizer import NUM_PIECES, SPECIAL

logger = logging.getLogger(__name__)

BATCH = 32
SCHEDULE = Schedule(
    steps=800,
    learning_rate=2e-3,
    warm_up_steps=100,
    weight_decay=0.01,
    averaging=0.995,
)
CONFIG = LlamaConfig(
    vocab_size=NUM_PIECES,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
BEGIN = SPECIAL.index("<s>")
IGNORE = -100
SHARES = {"hinted": 0.12, "conversation": 0.07, "sentence": 0.13}
"""Of the samples; the rest are captions alone."""
MAX_REPEATS = 5

Hint = tuple[tuple[int, ...], ...]
"""The pieces of one word or two, a kind and perhaps its colour."""


@dataclass(frozen=True, slots=True)
class TextSample:
    """`hints` stand between `<s>` and the text, each as one vector: the sum over its words of the
    mean embedding of their pieces.

    `ids` are the text's pieces without `<s>`; all of them are learnt.
    """

    hints: tuple[Hint, ...]
    ids: tuple[int, ...]


class Writer:
    """Turns layouts into samples; words are encoded as they stand in the middle of a sentence."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def hints(self, layout: corpus.Layout, rng: np.random.Generator) -> tuple[Hint, ...]:
        """The kinds of the layout in random order, each some times in a row, some with a colour."""
        found: list[Hint] = []
        for k in rng.permutation(len(layout.things)):
            thing = layout.things[k]
            times = 1 + int(rng.integers(MAX_REPEATS))
            words = [thing.kind, thing.variant] if rng.random() < 0.5 else [thing.kind]
            found.extend([tuple(map(self.encode, words))] * times)
        return tuple(found)

    def sample(self, rng: np.random.Generator) -> TextSample:
        """One text of `SHARES`."""
        layout = corpus.lay_out(rng)
        odds = [*SHARES.values(), 1 - sum(SHARES.values())]
        form = (*SHARES, "caption")[int(rng.choice(len(odds), p=odds))]
        if form == "conversation":
            return TextSample((), self.encode(corpus.conversation(layout, rng)))
        if form == "sentence":
            return TextSample((), self.encode(corpus.sentence(layout, rng) + "\n"))
        text = self.encode(corpus.caption(layout, rng) + "\n")
        return TextSample(self.hints(layout, rng) if form == "hinted" else (), text)


def embed(
    samples: Sequence[TextSample], table: nn.Embedding, begin: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Input embeddings (B, T, D), labels (B, T) and attention mask (B, T), padded on the right."""
    rows, labels = [], []
    for sample in samples:
        hints = [
            torch.stack([table(torch.tensor(word)).mean(0) for word in hint]).sum(0, keepdim=True)
            for hint in sample.hints
        ]
        text = table(torch.tensor(sample.ids))
        rows.append(torch.cat([table(torch.tensor([begin])), *hints, text]))
        labels.append(torch.tensor([IGNORE] * (1 + len(hints)) + list(sample.ids)))
    pad = nn.utils.rnn.pad_sequence
    labels_BT = pad(labels, batch_first=True, padding_value=IGNORE)
    lengths = torch.tensor([len(row) for row in rows])
    mask_BT = torch.arange(labels_BT.shape[1]) < lengths[:, None]
    return pad(rows, batch_first=True), labels_BT, mask_BT.long()


def language_loss(model: LlamaForCausalLM, samples: Sequence[TextSample]) -> Tensor:
    """Mean cross-entropy of the next piece over all pieces of the texts."""
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    inputs_BTD, labels_BT, mask_BT = embed(samples, table, BEGIN)
    hidden_BTD = model.model(inputs_embeds=inputs_BTD, attention_mask=mask_BT)[0]
    supervised = labels_BT[:, 1:] != IGNORE
    logits = model.lm_head(hidden_BTD[:, :-1][supervised])
    return F.cross_entropy(logits, labels_BT[:, 1:][supervised])


def build_language_model(config: LlamaConfig = CONFIG) -> LlamaForCausalLM:
    """An untrained model."""
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "embed" not in name:
            nn.init.xavier_uniform_(parameter)
    nn.init.normal_(model.model.embed_tokens.weight, std=0.05)
    return model


def train_language(
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    *,
    config: LlamaConfig = CONFIG,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> LlamaForCausalLM:
    """Train the model and leave a directory in `output`/model, averaged weights, fp16."""
    torch.manual_seed(seed)
    model = build_language_model(config)
    writer = Writer(tokenizer)

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        return {"text": language_loss(model, [writer.sample(rng) for _ in range(batch)])}

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, LlamaForCausalLM)
        save_language(model, output / "model")

    fit(model, losses, schedule, output, on_checkpoint=keep, max_minutes=max_minutes)
    save_language(model, output / "model")
    return model


def save_language(model: LlamaForCausalLM, directory: Path) -> None:
    """The model as a transformers directory in fp16; `model` itself stays as it is."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(directory)
