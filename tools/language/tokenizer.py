"""The embedded tokenizer: a BPE in SentencePiece's style, learnt from text about scenes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pad_pipeline.scenes.questions import box_numbers
from tools.language import corpus

NUM_PIECES = 768
MARK = "▁"
SPECIAL = ("<unk>", "<s>", "</s>")
"""Ids 0, 1 and 2; as in Vicuna the unknown token also pads."""

NUMBERS = tuple(box_numbers())
"""Pieces of their own, after all others: the numbers that boxes are written in."""

_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


def sample_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Captions for the most part; conversations and sentences; every printable ASCII character."""
    yield "".join(map(chr, range(33, 127)))
    rng = np.random.default_rng((seed, 77))
    for _ in range(count):
        layout = corpus.lay_out(rng)
        form = rng.random()
        if form < 0.6:
            yield corpus.caption(layout, rng)
        elif form < 0.85:
            yield corpus.sentence(layout, rng)
        else:
            yield corpus.conversation(layout, rng).replace("</s>", "")


def learn_pieces(count: int = 20_000, seed: int = 0) -> tuple[dict[str, int], list[list[str]]]:
    """Ids of the pieces (special, 256 bytes, then learnt) and the merges, in order.

    Merges stay within words; a word carries the mark of the space before it.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme="always"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_PIECES - len(_BYTES),
        special_tokens=list(SPECIAL),
        show_progress=False,
        min_frequency=1,
    )
    learner.train_from_iterator(sample_texts(count, seed), trainer)
    model = json.loads(learner.to_str())["model"]
    learnt = sorted(model["vocab"], key=model["vocab"].get)[len(SPECIAL) :]
    pieces = [*SPECIAL, *_BYTES, *learnt]
    return {piece: i for i, piece in enumerate(pieces)}, model["merges"]


def save_tokenizer(directory: Path, vocab: dict[str, int], merges: list[list[str]]) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as Llama's tokenizers have them."""
    special = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, token in enumerate(SPECIAL)
    ]  # fmt: skip
    numbers = [
        {**special[0], "id": len(vocab) + n, "content": number} for n, number in enumerate(NUMBERS)
    ]
    for number in numbers:
        number["special"] = False
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = [
        {"SpecialToken": {"id": "<s>", "type_id": 1}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [*special, *numbers],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": MARK,
            "prepend_scheme": "first",
            "split": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text, *second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "model_max_length": 512,
        "padding_side": "right",
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
        encoded = json.dumps(content, ensure_ascii=False, indent=1)
        (directory / name).write_text(encoded + "\n", encoding="utf-8")
