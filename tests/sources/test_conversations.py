"""Entries in every form that people have become the same conversation, or an error says why."""

from __future__ import annotations

from typing import Any

import pytest

from pad_pipeline.sources.conversations import (
    Conversation,
    ConversationError,
    Turn,
    has_conversation,
    image_paths,
    read_conversation,
)

ASKED = "<image>\nWhat is it?"
EXPECTED = Conversation((Turn("user", ASKED), Turn("assistant", "A cat.")), ("a.png",))

ENTRIES: dict[str, dict[str, Any]] = {
    "LLaVA": {
        "id": "1",
        "image": "a.png",
        "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": "A cat."}],
    },
    "LLaVA with other roles": {
        "image": "a.png",
        "conversations": [
            {"from": "user", "value": ASKED},
            {"from": "assistant", "value": "A cat."},
        ],
    },
    "ShareGPT": {
        "images": ["a.png"],
        "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": "A cat."}],
    },
    "a list of one image": {
        "image": ["a.png"],
        "conversations": [{"from": "Human", "value": ASKED}, {"from": "GPT", "value": "A cat."}],
    },
    "OpenAI, text": {
        "images": ["a.png"],
        "messages": [
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": "A cat."},
        ],
    },
    "OpenAI, parts": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "a.png"}},
                    {"type": "text", "text": "\nWhat is it?"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        ],
    },
    "transformers' parts": {
        "image": {"path": "a.png", "bytes": None},
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "\nWhat is it?"}],
            },
            {"role": "assistant", "content": "A cat."},
        ],
    },
    "The Cauldron": {"image": "a.png", "texts": [{"user": ASKED, "assistant": "A cat."}]},
}


@pytest.mark.parametrize("form", ENTRIES)
def test_every_form_is_the_same_conversation(form: str) -> None:
    entry = ENTRIES[form]
    assert has_conversation(entry)
    assert read_conversation(entry) == EXPECTED
    assert read_conversation(entry).first_answer == "A cat."
    assert read_conversation(entry).num_placeholders == 1


def test_a_system_text_is_a_turn_of_its_own() -> None:
    turns = [{"from": "system", "value": "Be brief."}, *ENTRIES["LLaVA"]["conversations"]]
    conversation = read_conversation({"conversations": turns})
    assert conversation.turns[0] == Turn("system", "Be brief.")
    assert conversation.images == ()


def test_a_number_as_an_answer_is_its_text() -> None:
    turns = [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": 3}]
    assert read_conversation({"conversations": turns}).first_answer == "3"


@pytest.mark.parametrize(
    ("entry", "paths"),
    [
        ({"image": None}, ()),
        ({"image": ""}, ()),
        ({"image": [], "images": ["a.png"]}, ("a.png",)),
        ({"image": ["a.png", "b.png"]}, ("a.png", "b.png")),
        ({"images": "a.png"}, ("a.png",)),
        ({"images": [{"path": "a.png", "bytes": None}, None]}, ("a.png",)),
        ({"caption": "no image"}, ()),
    ],
)
def test_paths_of_images(entry: dict[str, Any], paths: tuple[str, ...]) -> None:
    assert image_paths(entry) == paths


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"caption": "a"}, "it holds 'caption'; expected"),
        ({}, "it holds nothing"),
        ({"conversations": "hello"}, "its 'conversations' is 'hello'"),
        ({"conversations": ["hello"]}, "turn 1 is 'hello'"),
        ({"conversations": [{"from": "human"}]}, "turn 1 is"),
        (
            {"conversations": [{"from": "tool", "value": "x"}]},
            "turn 1 is from 'tool'; expected one",
        ),
        ({"conversations": [{"from": None, "value": "x"}]}, "turn 1 is from None"),
        ({"conversations": [{"from": "human", "value": None}]}, "turn 1 holds None; expected text"),
        ({"conversations": [{"from": "human", "value": True}]}, "turn 1 holds True"),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio", "data": "…"}]}]},
            "turn 1 has a part .*'audio'",
        ),
        ({"texts": [{"question": "x"}]}, "question 1 is"),
        ({"conversations": [], "image": 7}, "its 'image' should name images as text, not 7"),
        ({"conversations": [], "images": ["a", 7]}, "its 'images' should name images as text"),
    ],
)
def test_other_entries_say_what_they_hold(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversationError, match=message):
        read_conversation(entry)
