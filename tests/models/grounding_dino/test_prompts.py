"""Prompts hold every tag once, whole and in order, and phrases decode as in the original."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from pad_pipeline.models.grounding_dino.prompts import (
    Prompt,
    PromptError,
    build_prompts,
    check_separators,
    phrase_of,
    span_weights,
)
from tests.golden_data import golden_dir

CLS, SEP, STOP, QUESTION, COMMA = 101, 102, 1012, 1029, 1010


WORDS = (
    "a 3d bernard bird brown cafe car cat dog light orange red small st surfboard table traffic "
    "tree what with xylophone"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizer:
    """A small vocabulary with BERT's ids for the special tokens, words and single letters."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    special |= {COMMA: ",", STOP: ".", QUESTION: "?"}
    letters = string.ascii_lowercase + string.digits
    lines = [special.get(index, f"[unused{index}]") for index in range(max(special) + 1)]
    words = WORDS.split()
    lines += [*words, *(letter for letter in letters if letter not in words)]
    lines += [f"##{letter}" for letter in letters]
    lines += [sign for sign in string.punctuation if sign not in special.values()]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(lines) + "\n")
    return BertTokenizer(str(path), do_lower_case=True)


@pytest.fixture(scope="module")
def golden_tokenizer() -> BertTokenizer:
    return BertTokenizer(str(golden_dir("gdino_tiny") / "vocab.txt"), do_lower_case=True)


@pytest.fixture(scope="module")
def cases():
    return json.loads((golden_dir("gdino_tiny") / "tokenizer_cases.json").read_text())


def test_token_ids_are_the_originals(golden_tokenizer, cases):
    assert cases["cases"]
    for case in cases["cases"]:
        assert golden_tokenizer(case["text"])["input_ids"] == case["input_ids"], case["text"]


def test_phrases_decode_as_in_the_original(golden_tokenizer, cases):
    assert cases["partial_decodes"]
    for case in cases["partial_decodes"]:
        prompt = Prompt(tuple(golden_tokenizer(case["text"])["input_ids"]), (), ())
        above = np.zeros(256, bool)
        above[case["token_indices"]] = True
        # the original never decodes position 0; the golden decodes do
        expected = case["decoded"].removeprefix("[CLS]").lstrip()
        assert phrase_of(above, prompt, golden_tokenizer) == expected


def test_phrase_leaves_out_the_first_and_the_last_position(tokenizer):
    dog = tokenizer("dog")["input_ids"][1]
    prompt = Prompt((CLS, *[dog] * 300), (), ())
    above = np.zeros(256, bool)
    above[[0, 1, 255]] = True
    assert phrase_of(above, prompt, tokenizer) == "dog"


def test_span_prompt_is_the_tokenized_sentence(tokenizer):
    [prompt] = build_prompts(["Dog", "traffic light", "xylophone"], tokenizer)
    assert list(prompt.token_ids) == tokenizer("dog. traffic light. xylophone.")["input_ids"]
    assert prompt.tags == ("Dog", "traffic light", "xylophone")
    read = [tokenizer.decode(prompt.token_ids[start:stop]) for start, stop in prompt.spans]
    assert read == ["dog", "traffic light", "xylophone"]


def test_phrase_prompt_is_the_reference_caption(golden_tokenizer):
    expected = json.loads((golden_dir("pipeline_e2e") / "expected.json").read_text())
    tags = expected["ram_tags"].split(" | ")
    [prompt] = build_prompts(tags, golden_tokenizer, label_mode="phrase")
    assert list(prompt.token_ids) == golden_tokenizer(expected["caption"])["input_ids"]


@pytest.mark.parametrize("text", ["Dog. RED car. tree", "Dog. RED car. tree.", "cat?"])
def test_phrase_prompt_keeps_separators_and_adds_no_second_stop(tokenizer, text):
    [prompt] = build_prompts([text], tokenizer, label_mode="phrase")
    sentence = text if text.endswith(".") else text + "."
    assert list(prompt.token_ids) == tokenizer(sentence)["input_ids"]


def test_separators_inside_a_tag_do_not_divide_it(tokenizer):
    [prompt] = build_prompts(["st. bernard", "what? dog", "[SEP] cat"], tokenizer)
    assert prompt.token_ids.count(STOP) == 3
    assert QUESTION not in prompt.token_ids
    assert prompt.token_ids.count(SEP) == 1
    assert prompt.tags == ("st. bernard", "what? dog", "[SEP] cat")


@pytest.mark.parametrize("label_mode", ["span", "phrase"])
def test_no_tags_make_no_prompt(tokenizer, label_mode):
    assert build_prompts([], tokenizer, label_mode=label_mode) == []
    assert build_prompts(["", "  "], tokenizer, label_mode=label_mode) == []
    assert build_prompts(["...", "?"], tokenizer) == []


def test_duplicates_stand_once_under_their_first_spelling(tokenizer):
    [prompt] = build_prompts(["cat", "Red  car", "red car", "CAT", "dog", "red car"], tokenizer)
    assert prompt.tags == ("cat", "Red  car", "dog")


def test_tags_of_unknown_words_stay_apart(tokenizer):
    [prompt] = build_prompts(["straße", "\N{SNOWMAN}", "dog"], tokenizer)
    assert prompt.tags == ("straße", "\N{SNOWMAN}", "dog")
    starts = [prompt.token_ids[start] for start, _ in prompt.spans]
    assert starts[:2] == [tokenizer.unk_token_id] * 2


def test_the_longest_possible_tag_fits_and_one_more_token_is_refused(tokenizer):
    longest = " ".join(["dog"] * 253)
    [prompt] = build_prompts([longest], tokenizer)
    assert len(prompt.token_ids) == 256
    with pytest.raises(PromptError, match="254 tokens, but the detector reads at most 253"):
        build_prompts(["cat", longest + " dog"], tokenizer)


def test_a_prompt_takes_tags_until_the_next_does_not_fit(tokenizer):
    tags = ["dog", "red car", "tree", "cat"]
    # [CLS] dog . red car . [SEP] are 7 tokens; "tree ." would make 9
    first, second = build_prompts(tags, tokenizer, max_tokens=8)
    assert (first.tags, second.tags) == (("dog", "red car"), ("tree", "cat"))
    [whole] = build_prompts(tags, tokenizer, max_tokens=11)
    assert whole.tags == tuple(tags)


words = st.sampled_from(["dog", "red", "car", "Traffic", "surfboard", "café", "3d", "."])
tag = st.lists(words, min_size=1, max_size=9).map(" ".join)
odd_tag = st.text(alphabet=string.printable + "äß中。？\N{SNOWMAN}", max_size=12)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tags=st.lists(tag | odd_tag, max_size=120),
    label_mode=st.sampled_from(["span", "phrase"]),
    max_tokens=st.sampled_from([64, 256]),
)
def test_every_tag_once_whole_and_in_order(tokenizer, tags, label_mode, max_tokens):
    prompts = build_prompts(tags, tokenizer, label_mode=label_mode, max_tokens=max_tokens)
    spelled = {}
    for name in tags:
        spelled.setdefault(" ".join(name.lower().split()), name)
    silent = {CLS, SEP, STOP, QUESTION} if label_mode == "span" else set()
    readable = [
        name
        for name in spelled.values()
        if set(tokenizer(name, add_special_tokens=False)["input_ids"]) - silent
    ]
    assert [name for prompt in prompts for name in prompt.tags] == readable
    for prompt in prompts:
        ids = prompt.token_ids
        assert len(ids) <= max_tokens
        assert (ids[0], ids[-2], ids[-1]) == (CLS, STOP, SEP)
        for name, (start, stop) in zip(prompt.tags, prompt.spans, strict=True):
            own = tokenizer(name.lower(), add_special_tokens=False)["input_ids"]
            if label_mode == "span":
                own = [token for token in own if token not in (CLS, SEP, STOP, QUESTION)]
                assert ids[start - 1] in (CLS, STOP)
                assert ids[stop] == STOP
                assert list(ids[start:stop]) == own
            else:
                assert ids[start - 1] in (CLS, COMMA)


def test_span_weights_average_the_tokens_of_a_tag(tokenizer):
    [prompt] = build_prompts(["dog", "traffic light"], tokenizer)
    weights = span_weights(prompt, 10)
    probabilities = np.arange(10, dtype=np.float32)
    np.testing.assert_allclose(weights @ probabilities, [1.0, (3 + 4) / 2])
    assert weights.shape == (2, 10)


def test_separators_of_another_vocabulary_are_named(tokenizer):
    assert check_separators(tokenizer, (CLS, SEP, STOP, QUESTION)) == {}
    assert check_separators(tokenizer, (0, SEP, STOP, QUESTION)) == {"[CLS]": (CLS, 0)}
