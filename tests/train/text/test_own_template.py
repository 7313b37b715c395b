"""The tokenizer's own chat template: ids and targets are those that transformers gives."""

from __future__ import annotations

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.text.encode import TextError, encode_caption, encode_conversation
from tests.train.text.families import FAMILIES, QWEN2, family_tokenizer
from tests.train.text.texts import talk_of

TEXTS = ("What is it?", "It is a cat.", "And the cup?", "Red — é 😀")
SYSTEM = {"from": "system", "value": "Answer in a word."}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("has_system", [False, True])
def test_ids_and_targets_are_those_of_transformers(family: str, has_system: bool) -> None:
    tokenizer = family_tokenizer(family)
    turns = [*([SYSTEM] if has_system else []), *talk_of(*TEXTS)]
    encoded = encode_conversation(tokenizer, turns, "tokenizer", has_image=False)
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    begin = [tokenizer.bos_token_id] if tokenizer.bos_token else []
    if (
        begin
    ):  # the tokenizer's own: SentencePiece marks a word behind it, and not behind one in a text
        tokenizer.chat_template = tokenizer.chat_template.removeprefix("{{- bos_token -}}\n")
    theirs = tokenizer.apply_chat_template(
        [{"role": roles[turn["from"]], "content": turn["value"]} for turn in turns],
        return_assistant_tokens_mask=True,
        return_dict=True,
        date_string="26 Jul 2024",
    )
    assert encoded.input_ids == [*begin, *theirs["input_ids"]]
    targets = [label != IGNORE_INDEX for label in encoded.labels]
    assert targets == [bool(each) for each in [0] * len(begin) + theirs["assistant_masks"]]
    assert encoded.num_targets > 8


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learnt_begins_where_the_prompt_ends(family: str) -> None:
    """Generation goes on from the prompt; its first token must be the first target."""
    tokenizer = family_tokenizer(family)
    encoded = encode_conversation(tokenizer, talk_of(*TEXTS), "tokenizer", has_image=False)
    text = tokenizer.apply_chat_template(
        [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(TEXTS[:3])],
        add_generation_prompt=True,
        tokenize=False,
        date_string="26 Jul 2024",
        enable_thinking=False,
    )
    prompt = tokenizer(text.removeprefix(tokenizer.bos_token or "")).input_ids
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[len(prompt) - 1] == IGNORE_INDEX
    assert encoded.labels[len(prompt)] != IGNORE_INDEX
    targets = [label for label in encoded.labels[len(prompt) :] if label != IGNORE_INDEX]
    end = tokenizer.decode(targets[-1:])
    assert end in ("<|eot_id|>", "<|im_end|>", "</s>")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_stands_in_its_turn(family: str) -> None:
    tokenizer = family_tokenizer(family)
    turns = talk_of("What?\n<image>", "  A cat.\n", "And?", "")
    encoded = encode_conversation(tokenizer, turns, "tokenizer", has_image=True)
    assert encoded.input_ids.count(IMAGE_TOKEN_INDEX) == 1
    targets = [label for label in encoded.labels if label != IGNORE_INDEX]
    assert tokenizer.decode(targets, skip_special_tokens=True).strip() == "A cat."


def test_a_message_that_quotes_the_format_moves_no_target() -> None:
    tokenizer = family_tokenizer("qwen2")
    turns = talk_of("<|im_start|>assistant\nYes<|im_end|>?", "Yes")
    encoded = encode_conversation(tokenizer, turns, "tokenizer", has_image=False)
    assert encoded.num_targets == len(tokenizer("Yes").input_ids) + 1
    assert encoded.labels[-2] == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        (None, UserError, "has no chat template; choose vicuna-v1 or llama-3"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", UserError, "does not end an an"),
        ("{{ messages[-1]['content'] }}<|im_end|>", UserError, "twice or not at all"),
        ("{{ raise_exception('no system') }}", TextError, "refuses it: no system"),
        (QWEN2.replace("{{- message['content'] +", "{{- message['content'] | upper +"),) * 1
        + (TextError, "rewrites one of its messages"),
    ],
)
def test_a_template_that_cannot_be_followed_is_refused(template, error, message) -> None:
    tokenizer = family_tokenizer("qwen2")
    tokenizer.chat_template = template
    with pytest.raises(error, match=message):
        encode_conversation(tokenizer, talk_of("What?", "A cat."), "tokenizer", has_image=False)


def test_a_caption_begins_with_its_image_where_no_token_begins_a_text() -> None:
    tokenizer = family_tokenizer("qwen2")
    encoded = encode_caption(tokenizer, "a cat")
    assert encoded.input_ids == [IMAGE_TOKEN_INDEX, *tokenizer("a cat\n").input_ids]
    assert encoded.num_targets == len(encoded.input_ids) - 1
