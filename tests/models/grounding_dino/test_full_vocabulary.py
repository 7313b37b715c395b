"""Prompts of RAM's whole tag list in BERT's whole vocabulary, as the released models see them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from transformers import BertTokenizer

from pad_pipeline.models.grounding_dino.load import SEPARATOR_IDS, load_tokenizer
from pad_pipeline.models.grounding_dino.prompts import (
    LabelMode,
    Prompt,
    build_prompts,
    check_separators,
    span_weights,
)
from pad_pipeline.models.ram.config import (
    RELEASED_TAGS,
    RELEASED_THRESHOLDS,
    read_tags,
    read_thresholds,
)
from tests.real_data import real_data

VOCABULARY = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    path = real_data("bert/vocab.txt", "the vocabulary of bert-base-uncased")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == VOCABULARY
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def tags() -> tuple[str, ...]:
    return read_tags(RELEASED_TAGS)


def test_the_shipped_lists_are_the_released_ones(tags: tuple[str, ...]) -> None:
    thresholds = read_thresholds(RELEASED_THRESHOLDS)
    assert len(tags) == len(thresholds) == len(set(tags)) == 4585
    assert (min(thresholds), max(thresholds)) == (0.45, 1)
    assert (tags[0], tags[-1]) == ("3D CG rendering", "zoo")


def test_every_tag_has_words_of_the_vocabulary(
    tokenizer: BertTokenizer, tags: tuple[str, ...]
) -> None:
    assert len(tokenizer) == 30522
    assert check_separators(tokenizer, SEPARATOR_IDS) == {}
    pieces = tokenizer(list(tags), add_special_tokens=False)["input_ids"]
    assert not any(tokenizer.unk_token_id in ids for ids in pieces)
    lengths = [len(ids) for ids in pieces]
    assert max(lengths) == 5
    assert np.mean(lengths) == pytest.approx(1.63, abs=0.005)


def check(prompts: Sequence[Prompt], tags: Sequence[str], tokenizer: BertTokenizer) -> None:
    """Every tag once and in order, its span the tokens of that tag alone, nothing past 256."""
    assert [tag for prompt in prompts for tag in prompt.tags] == list(tags)
    pieces = tokenizer([tag.lower() for tag in tags], add_special_tokens=False)["input_ids"]
    alone = dict(zip(tags, pieces, strict=True))
    for prompt in prompts:
        assert len(prompt.token_ids) <= 256
        assert prompt.token_ids[0] == tokenizer.cls_token_id
        assert prompt.token_ids[-1] == tokenizer.sep_token_id
        for tag, (start, stop) in zip(prompt.tags, prompt.spans, strict=True):
            expected = [i for i in alone[tag] if i not in SEPARATOR_IDS]
            assert list(prompt.token_ids[start:stop]) == expected, tag
    for prompt, following in itertools.pairwise(prompts):
        start, stop = following.spans[0]
        assert len(prompt.token_ids) + (stop - start) + 1 > 256  # no prompt has room for the next


@pytest.mark.parametrize("num_tags", [1, 3000, 4585])
def test_prompts_hold_every_tag_whole(
    tokenizer: BertTokenizer, tags: tuple[str, ...], num_tags: int
) -> None:
    check(build_prompts(tags[:num_tags], tokenizer), tags[:num_tags], tokenizer)


def test_each_of_the_tags_maps_back_to_its_own_span(
    tokenizer: BertTokenizer, tags: tuple[str, ...]
) -> None:
    """Where the tokens of one tag answer and no others, that tag and no other has the score 1."""
    found = []
    for prompt in build_prompts(tags, tokenizer):
        weights = span_weights(prompt, 256)
        answers = weights > 0  # row i: the tokens of tag i answer with 1
        scores = weights @ answers.T.astype(np.float32)
        np.testing.assert_allclose(np.diag(scores), 1, rtol=1e-6)
        assert (scores - np.diag(np.diag(scores))).max() == 0
        found += [prompt.tags[index] for index in scores.argmax(0)]
    assert found == list(tags)


def test_the_public_scripts_prompts_hold_every_tag_too(
    tokenizer: BertTokenizer, tags: tuple[str, ...]
) -> None:
    prompts = build_prompts(tags, tokenizer, label_mode="phrase")
    assert [tag for prompt in prompts for tag in prompt.tags] == list(tags)
    assert max(len(prompt.token_ids) for prompt in prompts) <= 256


@pytest.mark.parametrize("label_mode", ["span", "phrase"])
def test_punctuation_and_unicode_keep_their_spans(
    tokenizer: BertTokenizer, label_mode: LabelMode
) -> None:
    odd = [
        "St. Bernard",
        "jack-o'-lantern",
        "crème brûlée",
        "100% wool?",
        "日本 castle",
        "naïve 🎉",
    ]
    (prompt,) = build_prompts(odd, tokenizer, label_mode=label_mode)
    assert prompt.tags == tuple(odd)
    words = [
        tokenizer.decode(prompt.token_ids[start:stop], clean_up_tokenization_spaces=True)
        for start, stop in prompt.spans
    ]
    marks = ("", "") if label_mode == "span" else (".", "?")
    assert words == [
        f"st{marks[0]} bernard",
        "jack - o'- lantern",
        "creme brulee",  # uncased BERT drops accents
        f"100 % wool{marks[1]}",
        "日 本 castle",
        "naive [UNK]",
    ]
