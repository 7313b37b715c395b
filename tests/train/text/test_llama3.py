"""Llama 3's chat format: text, targets and the tokenizer's own template, on byte-level BPE."""

from __future__ import annotations

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.text.encode import encode_caption, encode_conversation
from tests.train.text.byte_level import byte_level_tokenizer
from tests.train.text.texts import talk_of

CONVERSATION = talk_of("<image>\nWhat is it?", "  It is a cat.\n", "And\nthe cup?", "Red — é 😀")
LLAMA3_TEXT = (
    "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat is it?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nIt is a cat.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd\nthe cup?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nRed — é 😀<|eot_id|>"
)
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ bos_token if loop.first else '' }}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim "
    "+ '<|eot_id|>' }}{% endfor %}"
)
DATED_TEMPLATE = (
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date_string "
    "+ '\\n\\n' + messages[0]['content'] + '<|eot_id|>' }}"
    "{% for m in messages[1:] %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
)


def decoded(tokenizer, ids: list[int]) -> str:
    """The text of ids with `<image>` for images."""
    stretches, start = [], 0
    for position in [*(i for i, t in enumerate(ids) if t == IMAGE_TOKEN_INDEX), len(ids)]:
        stretches.append(tokenizer.decode(ids[start:position]))
        start = position + 1
    return "<image>".join(stretches)


def test_llama3_text_and_targets(llama3):
    encoded = encode_conversation(llama3, CONVERSATION, "llama-3", has_image=True)
    text = decoded(llama3, encoded.input_ids)
    assert text.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are")
    assert text.endswith("<|eot_id|>" + LLAMA3_TEXT)
    assert encoded.input_ids.count(llama3.bos_token_id) == 1
    targets = [label for label in encoded.labels if label != IGNORE_INDEX]
    assert llama3.decode(targets) == "It is a cat.<|eot_id|>Red — é 😀<|eot_id|>"


def test_llama3_tokens_are_those_of_the_whole_text(llama3):
    """Cutting for the labels must not change the tokens."""
    turns = talk_of("What is it?", "It is a cat.", "And the cup?", "Red — é 😀")
    encoded = encode_conversation(llama3, turns, "llama-3", has_image=False)
    text = llama3.decode(encoded.input_ids)
    assert llama3(text, add_special_tokens=False).input_ids == encoded.input_ids


def test_the_tokenizers_own_chat_template_gives_the_same(llama3):
    with_template = byte_level_tokenizer()
    with_template.chat_template = PLAIN_TEMPLATE
    ours = encode_conversation(llama3, CONVERSATION, "llama-3", has_image=True)
    assert encode_conversation(with_template, CONVERSATION, "llama-3", has_image=True) == ours
    text = decoded(llama3, ours.input_ids)
    system = text.split("<|end_header_id|>\n\n")[1].removesuffix(
        "<|eot_id|><|start_header_id|>user"
    )
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": "<image>\nWhat is it?"},
        {"role": "assistant", "content": "It is a cat."},
        {"role": "user", "content": "And\nthe cup?"},
        {"role": "assistant", "content": "Red — é 😀"},
    ]
    assert with_template.apply_chat_template(messages, tokenize=False) == text


def test_a_template_that_adds_to_the_system_text_is_followed():
    """Llama 3.1's writes dates there; they must not be today's."""
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = DATED_TEMPLATE
    encoded = encode_conversation(tokenizer, CONVERSATION, "llama-3", has_image=True)
    text = decoded(tokenizer, encoded.input_ids)
    assert "Today: 26 Jul 2024\n\nYou are" in text
    assert text.endswith("<|eot_id|>" + LLAMA3_TEXT)
    targets = [label for label in encoded.labels if label != IGNORE_INDEX]
    assert tokenizer.decode(targets) == "It is a cat.<|eot_id|>Red — é 😀<|eot_id|>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}", "does not write"),
        ("{{ raise_exception('system role not supported') }}", "system role not supported"),
    ],
)
def test_a_template_of_another_family_is_refused(template, message):
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=message):
        encode_conversation(tokenizer, CONVERSATION, "llama-3", has_image=True)


def test_a_message_that_quotes_the_format_moves_no_target(llama3):
    quoted = "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>"
    for template in (None, PLAIN_TEMPLATE):
        tokenizer = byte_level_tokenizer()
        tokenizer.chat_template = template
        turns = talk_of(f"What is {quoted}?", "Yes", "And?", "")
        encoded = encode_conversation(tokenizer, turns, "llama-3", has_image=False)
        assert encoded.num_targets == len(llama3("Yes", add_special_tokens=False).input_ids) + 1
        last = max(i for i, label in enumerate(encoded.labels) if label != IGNORE_INDEX)
        assert "?<|eot_id|>" in llama3.decode(encoded.input_ids[:last])


def test_byte_level_captions(llama3):
    caption = "a dog on the table"
    ids = llama3(caption + "\n", add_special_tokens=False).input_ids
    encoded = encode_caption(llama3, caption)
    assert encoded.input_ids == [llama3.bos_token_id, IMAGE_TOKEN_INDEX, *ids]
    assert encoded.labels == [IGNORE_INDEX, IGNORE_INDEX, *ids]


def test_vicunas_format_with_byte_level_pieces(llama3):
    """A post-processor that trims offsets must not move a target."""
    encoded = encode_conversation(llama3, CONVERSATION, "vicuna-v1", has_image=True)
    targets = [label for label in encoded.labels if label != IGNORE_INDEX]
    end = llama3.eos_token
    assert llama3.decode(targets) == f"   It is a cat.\n{end} Red — é 😀{end}"
