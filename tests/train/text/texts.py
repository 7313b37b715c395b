"""Tokenizers and small helpers that the tests of texts share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.text.encode import EncodedText, load_tokenizer
from tests.golden_data import golden_dir

SETTINGS = ("legacy off", "legacy on", "tokenizer.json alone", "normalised special tokens")
"""Four ways in which the same model of pieces is found; the last three write the same marks."""


def golden_tokenizers(place: Path) -> dict[str, Any]:
    """The golden tokenizer in each of the settings, loaded from folders under `place`."""
    source = golden_dir("llava_text") / "tokenizer"
    config = json.loads((source / "tokenizer_config.json").read_text())
    model = json.loads((source / "tokenizer.json").read_text())
    normalised = {
        **model,
        "added_tokens": [t | {"normalized": True} for t in model["added_tokens"]],
    }
    generic = {**config, "tokenizer_class": "PreTrainedTokenizerFast"}
    contents = {
        "legacy off": (config | {"legacy": False}, model),
        "legacy on": (config | {"legacy": True}, model),
        "tokenizer.json alone": (generic, model),
        "normalised special tokens": (generic, normalised),
    }
    assert tuple(contents) == SETTINGS
    for name, (settings_of, pieces) in contents.items():
        (place / name).mkdir()
        (place / name / "tokenizer_config.json").write_text(json.dumps(settings_of))
        (place / name / "tokenizer.json").write_text(json.dumps(pieces))
    return {name: load_tokenizer(place / name) for name in SETTINGS}


def supervised_text(tokenizer, encoded: EncodedText) -> str:
    """The supervised tokens put together by hand, not by the tokenizer's decoder."""
    ids = [label for label in encoded.labels if label != IGNORE_INDEX]
    return text_of(tokenizer.convert_ids_to_tokens(ids))


def text_of(pieces: list[str]) -> str:
    bytes_of = (
        bytes([int(piece[3:5], 16)]) if re.fullmatch(r"<0x\w\w>", piece) else piece.encode()
        for piece in pieces
    )
    return b"".join(bytes_of).decode().replace("▁", " ")


def talk_of(*values: str) -> list[dict[str, str]]:
    """Turns of human and gpt in alternation."""
    return [
        {"from": ("human", "gpt")[number % 2], "value": value}
        for number, value in enumerate(values)
    ]
