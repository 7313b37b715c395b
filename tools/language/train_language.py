"""Training of the embedded language model: captions, plain sentences, conversations.

A few captions come after hints of what they say: the words of the kinds in random order. From these
and from conversations the model learns to make some use of what stands before a text; from
questions about grids of words (`cells`) it learns to look things up. No image takes part.
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

from pad_pipeline.reproduce.second_stage import encode_questions
from pad_pipeline.scenes.questions import ask, choose
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from tools.annotators.training_loop import Schedule, fit
from tools.language import corpus
from tools.language.cells import NUM_CODES, WORDS, Cells, make_cells
from tools.language.tokenizer import NUM_PIECES, NUMBERS, SPECIAL

logger = logging.getLogger(__name__)

BATCH = 32
SCHEDULE = Schedule(
    steps=5000,
    learning_rate=2e-3,
    warm_up_steps=100,
    weight_decay=0.01,
    averaging=0.995,
)
CONFIG = LlamaConfig(
    vocab_size=NUM_PIECES + len(NUMBERS),
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
SHARES = {"asked": 0.5, "hinted": 0.06, "conversation": 0.035, "sentence": 0.065}
"""Of the samples; the rest are captions alone."""
MAX_REPEATS = 5
ASKED_COUNTS = (0.1, 0.4, 0.3, 0.1, 0.1)
"""Odds of 1 to 5 things where questions are asked: with few of them looking up is learnt sooner."""
CELL_NOISE = 0.4
"""The most that cells are off, in deviations of the words' embeddings."""
CELL_SCALE = 2.0
"""By how much cells are longer or shorter at the most."""

Hint = tuple[tuple[int, ...], ...]
"""The pieces of one word or two, a kind and perhaps its colour."""


@dataclass(frozen=True, slots=True)
class TextSample:
    """`hints` stand between `<s>` and the text, each as one vector: the sum over its words of the
    mean embedding of their pieces.

    `ids` are the text's pieces without `<s>`, `labels` those of them that are learnt (all, where it
    is None). `cells` stand in the text before the piece with the number `cells_at`.
    """

    hints: tuple[Hint, ...]
    ids: tuple[int, ...]
    labels: tuple[int, ...] | None = None
    cells: Cells | None = None
    cells_at: int = 0


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

    def asked(self, layout: corpus.Layout, rng: np.random.Generator) -> TextSample:
        """Questions about the layout's cells; the answers are learnt."""
        size, things = corpus.give_boxes(layout, rng)
        asked = choose(ask(things, size, rng), rng)
        text = encode_questions(self.tokenizer, [(each.question, each.answer) for each in asked])
        place = text.input_ids.index(IMAGE_TOKEN_INDEX)
        ids, labels = list(text.input_ids[1:]), list(text.labels[1:])
        del ids[place - 1], labels[place - 1]
        return TextSample((), tuple(ids), tuple(labels), make_cells(size, things, rng), place - 1)

    def sample(self, rng: np.random.Generator) -> TextSample:
        """One text of `SHARES`."""
        odds = [*SHARES.values(), 1 - sum(SHARES.values())]
        form = (*SHARES, "caption")[int(rng.choice(len(odds), p=odds))]
        if form == "asked":
            return self.asked(corpus.lay_out(rng, ASKED_COUNTS), rng)
        layout = corpus.lay_out(rng)
        if form == "conversation":
            return TextSample((), self.encode(corpus.conversation(layout, rng)))
        if form == "sentence":
            return TextSample((), self.encode(corpus.sentence(layout, rng) + "\n"))
        text = self.encode(corpus.caption(layout, rng) + "\n")
        return TextSample(self.hints(layout, rng) if form == "hinted" else (), text)

    def word_pieces(self) -> Tensor:
        """(words, pieces) shares of the pieces in each of the cells' words."""
        shares = torch.zeros(len(WORDS), len(self.tokenizer))
        for row, word in zip(shares, WORDS, strict=True):
            pieces = self.encode(word)
            row.index_add_(0, torch.tensor(pieces), torch.full((len(pieces),), 1 / len(pieces)))
        return shares


class ModelOfCells(nn.Module):
    """The language model, and for training alone the vectors of the numbers in cells."""

    def __init__(self, llm: LlamaForCausalLM, writer: Writer) -> None:
        super().__init__()
        self.llm = llm
        self.codes = nn.Linear(NUM_CODES, llm.config.hidden_size, bias=False)
        nn.init.normal_(self.codes.weight, std=0.05)
        self.register_buffer("word_pieces", writer.word_pieces(), persistent=False)

    def vectors(self, cells: Cells, words_WD: Tensor, rng: np.random.Generator) -> Tensor:
        """(64, D) of a grid, none of them exact."""
        found_SD = torch.from_numpy(cells.words) @ words_WD + self.codes(
            torch.from_numpy(cells.codes)
        )
        noise = rng.normal(0, rng.uniform(0, CELL_NOISE), found_SD.shape).astype(np.float32)
        scale = CELL_SCALE ** rng.uniform(-1, 1)
        return scale * (found_SD + torch.from_numpy(noise) * words_WD.detach().std())

    def embed(
        self, samples: Sequence[TextSample], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Input embeddings (B, T, D), labels (B, T) and attention mask (B, T), padded right."""
        table = self.llm.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        assert isinstance(self.word_pieces, Tensor)
        words_WD = self.word_pieces @ table.weight
        rows, labels = [], []
        for sample in samples:
            hints = [
                torch.stack([table(torch.tensor(word)).mean(0) for word in hint]).sum(0)[None]
                for hint in sample.hints
            ]
            at = sample.cells_at
            text = table(torch.tensor(sample.ids))
            known = list(sample.ids if sample.labels is None else sample.labels)
            cells = [] if sample.cells is None else [self.vectors(sample.cells, words_WD, rng)]
            begin = table(torch.tensor([BEGIN]))
            rows.append(torch.cat([begin, *hints, text[:at], *cells, text[at:]]))
            blank = [IGNORE_INDEX] * sum(map(len, cells))
            before = [IGNORE_INDEX] * (1 + len(hints))
            labels.append(torch.tensor(before + known[:at] + blank + known[at:]))
        pad = nn.utils.rnn.pad_sequence
        labels_BT = pad(labels, batch_first=True, padding_value=IGNORE_INDEX)
        lengths = torch.tensor([len(row) for row in rows])
        mask_BT = torch.arange(labels_BT.shape[1]) < lengths[:, None]
        return pad(rows, batch_first=True), labels_BT, mask_BT.long()


def language_losses(
    model: ModelOfCells, samples: Sequence[TextSample], rng: np.random.Generator
) -> dict[str, Tensor]:
    """Mean cross-entropy of the next piece over what is learnt: of texts, of answers about cells.

    Each kind by itself, as their lengths differ; a kind that does not occur is left out.
    """
    parts = {
        "text": [sample for sample in samples if sample.cells is None],
        "answers": [sample for sample in samples if sample.cells is not None],
    }
    losses = {}
    for name, chosen in parts.items():
        if chosen:
            inputs_BTD, labels_BT, mask_BT = model.embed(chosen, rng)
            hidden_BTD = model.llm.model(inputs_embeds=inputs_BTD, attention_mask=mask_BT)[0]
            learnt = labels_BT[:, 1:] != IGNORE_INDEX
            logits = model.llm.lm_head(hidden_BTD[:, :-1][learnt])
            losses[name] = F.cross_entropy(logits, labels_BT[:, 1:][learnt])
    return losses


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
    writer = Writer(tokenizer)
    model = ModelOfCells(build_language_model(config), writer)

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        return language_losses(model, [writer.sample(rng) for _ in range(batch)], rng)

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, ModelOfCells)
        save_language(model.llm, output / "model")

    fit(model, losses, schedule, output, on_checkpoint=keep, max_minutes=max_minutes)
    save_language(model.llm, output / "model")
    return model.llm


def save_language(model: LlamaForCausalLM, directory: Path) -> None:
    """The model as a transformers directory in fp16; `model` itself stays as it is."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(directory)
