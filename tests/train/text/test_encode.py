"""Token ids and labels are the original's, for captions, conversations and labels."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline.errors import UserError
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.text.encode import (
    EncodedText,
    TextError,
    encode_caption,
    encode_conversation,
    encode_label,
)
from pad_pipeline.train.text.templates import check_turns, image_to_front, render_vicuna
from tests.golden_data import golden_dir
from tests.train.text.texts import SETTINGS, supervised_text, talk_of, text_of


def cases(name: str) -> list[dict]:
    found = json.loads((golden_dir("llava_text") / f"{name}_cases.json").read_text())
    assert len(found["cases"]) == found["num_cases"]
    return found["cases"]


def answer_of(case: dict, setting: str) -> dict:
    """What the original gives for a case."""
    answer = case["legacy_false" if setting == "legacy off" else "legacy_true"]
    return case["legacy_false"] if answer == "same" else answer


def encode_sample(tokenizer, sample: dict, template: str) -> EncodedText:
    turns, has_image = sample["conversations"], "image" in sample
    if template == "plain":
        (_, _), (_, caption) = check_turns(turns)
        return encode_caption(tokenizer, caption, has_image=has_image)
    return encode_conversation(tokenizer, turns, "vicuna-v1", has_image=has_image)


def without_images(labels: list[int]) -> list[int]:
    """The original's labels as they are once images are expanded."""
    return [IGNORE_INDEX if label == IMAGE_TOKEN_INDEX else label for label in labels]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("template", ["plain", "v1"])
def test_ids_and_labels_are_the_originals(tokenizers, setting, template):
    num_compared = 0
    golden = cases(template)
    for case in golden:
        expected, sample = answer_of(case, setting), case["sample"]
        if expected["error"]:
            # Our captions need no conversation around them, and our templates take system texts.
            if template != "plain" and case["name"] != "system_role":
                with pytest.raises(TextError):
                    encode_sample(tokenizers[setting], sample, template)
            continue
        encoded = encode_sample(tokenizers[setting], sample, template)
        # The original cuts text-only samples here, those with images when it collates.
        end = None if "image" in sample else case["model_max_length"]
        assert encoded.input_ids[:end] == expected["input_ids"], case["name"]
        assert len(encoded.labels) == len(encoded.input_ids)
        if not expected["mismatch"]:
            assert encoded.labels[:end] == without_images(expected["labels"]), case["name"]
            num_compared += 1
    answers = [answer_of(case, setting) for case in golden]
    assert num_compared == sum(not (a["error"] or a["mismatch"]) for a in answers) > 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_answer_is_supervised_where_the_original_loses_them(tokenizers, setting):
    num_rescued = 0
    for case in cases("v1"):
        expected, turns = answer_of(case, setting), case["sample"]["conversations"]
        if expected["error"] or not expected["mismatch"]:
            continue
        encoded = encode_sample(tokenizers[setting], case["sample"], "v1")
        answers = [turn["value"] for turn in turns[1:] if turn["from"] == "gpt"]
        end_token = tokenizers[setting].eos_token
        text = "".join(f" {answer}{end_token}" for answer in answers if answer)
        found = supervised_text(tokenizers["legacy off"], encoded)  # the pieces are the same
        if setting != "legacy off":  # a mark stands behind special tokens within an answer
            found, text = found.replace(" ", ""), text.replace(" ", "")
        assert found == text, case["name"]
        assert bool(encoded.num_targets) == any(answers), case["name"]
        num_rescued += bool(encoded.num_targets)
    assert num_rescued > 0


def test_prompts_are_the_originals(tokenizers):
    end_token = tokenizers["legacy off"].eos_token
    for case in cases("v1"):
        if not answer_of(case, "legacy off")["error"]:
            messages = check_turns(case["sample"]["conversations"])
            if "image" in case["sample"]:
                messages = [(role, image_to_front(value)) for role, value in messages]
            assert render_vicuna(messages, end_token).text == case["prompt"], case["name"]


def test_a_batch_is_collated_as_in_the_original(tokenizers):
    """Right-padded with 0 and cut at the maximum; what `<unk>` (0) is masked there, too."""
    batch = json.loads((golden_dir("llava_text") / "collated_batch.json").read_text())
    by_name = {case["name"]: case for case in cases("v1")}
    width = batch["model_max_length"]
    for name, ids, labels in zip(batch["cases"], batch["input_ids"], batch["labels"], strict=True):
        encoded = encode_sample(tokenizers["legacy off"], by_name[name]["sample"], "v1")
        padding = width - len(encoded.input_ids[:width])
        assert encoded.input_ids[:width] + [0] * padding == ids
        if not answer_of(by_name[name], "legacy off")["mismatch"]:
            assert encoded.labels[:width] + [IGNORE_INDEX] * padding == labels


def test_a_system_turn_takes_the_place_of_the_templates_own(tokenizers, llama3):
    talk = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}]
    turns = [{"from": "system", "value": "Be brief."}, *talk]
    messages = check_turns(turns)
    assert messages == [("system", "Be brief."), ("user", "Where?"), ("assistant", "Here.")]
    rendered = render_vicuna(messages, "</s>")
    assert rendered.text == "Be brief. USER: Where? ASSISTANT: Here.</s>"
    assert [rendered.text[start:end] for start, end in rendered.answers] == [" Here.</s>"]
    assert supervised_text(
        tokenizers["legacy off"],
        encode_conversation(tokenizers["legacy off"], turns, "vicuna-v1", has_image=False),
    ) == supervised_text(
        tokenizers["legacy off"],
        encode_conversation(tokenizers["legacy off"], talk, "vicuna-v1", has_image=False),
    )
    text = llama3.decode(encode_conversation(llama3, turns, "llama-3", has_image=False).input_ids)
    assert "system<|end_header_id|>\n\nBe brief.<|eot_id|>" in text
    assert text.count("system<|end_header_id|>") == 1
    empty = [{"from": "system", "value": " "}, *talk]
    assert encode_conversation(llama3, empty, "llama-3", has_image=False) == encode_conversation(
        llama3, talk, "llama-3", has_image=False
    )


STRETCHES = st.lists(
    st.sampled_from(["the", "dog ", "USER:", "x  y", "<s>", "</s>", "<unk>", "é", "\n", "4 cups"])
)


@settings(max_examples=100, deadline=None)
@given(stretches=STRETCHES)
def test_ids_are_transformers_where_nothing_begins_with_a_space(tokenizers, stretches):
    text = re.sub("(^|<s>|</s>|<unk>) +", r"\1", "".join(stretches))
    for setting in ("legacy off", "legacy on", "tokenizer.json alone"):
        ours = encode_caption(tokenizers[setting], text, has_image=False)
        assert ours.input_ids == tokenizers[setting](text + "\n").input_ids, setting


def test_transformers_ids_would_differ(tokenizers):
    """Why the copy of the backend: transformers drops a mark where text begins with a space."""
    text = "   the dark dog"
    ours = encode_caption(tokenizers["legacy off"], text, has_image=False).input_ids
    assert tokenizers["legacy off"](text + "\n").input_ids != ours
    pieces = tokenizers["legacy off"].convert_ids_to_tokens(ours[1:])
    assert text_of(pieces) == " " + text + "\n"


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "no turns"),
        ([("human", "a"), ("human", "b"), ("gpt", "c")], "turn 2 is from the user like the turn"),
        ([("gpt", "a"), ("gpt", "b")], "turn 2 is from the assistant"),
        ([("human", "b"), ("gpt", "c"), ("system", "Be brief.")], "turn 3 is from the system"),
        ([("narrator", "b"), ("gpt", "c")], "turn 1 is from 'narrator'"),
        ([(None, "a")], "turn 1 is from None"),
        ([("human", {"text": "3"})], "turn 1 holds {'text': '3'}; expected text"),
        ([("human", None)], "turn 1 holds None"),
    ],
)
def test_turns_that_make_no_conversation_are_named(llama3, turns, message):
    spoken = [{"from": speaker, "value": value} for speaker, value in turns]
    with pytest.raises(TextError, match=re.escape(message)) as found:
        encode_conversation(llama3, spoken, "llama-3", has_image=False)
    assert isinstance(found.value, ValueError)
    assert isinstance(found.value, UserError)


@pytest.mark.parametrize("template", ["vicuna-v1", "llama-3"])
def test_an_empty_answer_has_no_target(llama3, template):
    for values, is_taught in (
        (["Is it?", ""], False),
        (["Is it?"], False),
        (["Is it?", "Yes"], True),
        (["Is it?", "", "And?", "No"], True),
    ):
        turns = talk_of(*values)
        encoded = encode_conversation(llama3, turns, template, has_image=False)
        assert bool(encoded.num_targets) == is_taught, values


@pytest.mark.parametrize("template", ["vicuna-v1", "llama-3"])
def test_a_leading_answer_is_dropped(llama3, template):
    turns = talk_of("Is it?", "Yes")
    led = [{"from": "gpt", "value": "Hello."}, *turns]
    expected = encode_conversation(llama3, turns, template, has_image=False)
    assert encode_conversation(llama3, led, template, has_image=False) == expected


@pytest.mark.parametrize("template", ["vicuna-v1", "llama-3"])
def test_one_place_for_each_turn_with_images(llama3, template):
    turns = talk_of("<image> <image> What?", "See <image> here.", "And?", "No")
    encoded = encode_conversation(llama3, turns, template, has_image=True)
    assert encoded.num_images == 2
    places = [i for i, token in enumerate(encoded.input_ids) if token == IMAGE_TOKEN_INDEX]
    assert [encoded.labels[place] for place in places] == [IGNORE_INDEX, IGNORE_INDEX]
    alone = encode_conversation(llama3, turns, template, has_image=False)
    assert alone.num_images == 0
    assert "<image>" in llama3.decode(alone.input_ids)


def test_a_caption_without_an_image_starts_behind_the_beginning(tokenizers):
    for tokenizer in tokenizers.values():
        shown = encode_caption(tokenizer, "the red dog")
        alone = encode_caption(tokenizer, "the red dog", has_image=False)
        assert shown.input_ids == [tokenizer.bos_token_id, IMAGE_TOKEN_INDEX, *alone.input_ids[1:]]
        assert shown.labels[2:] == alone.labels[1:] == alone.input_ids[1:]


WORDS = st.text(st.characters(exclude_characters="<>|", exclude_categories=("Cs",)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(WORDS, min_size=2, max_size=6), has_image=st.booleans())
def test_all_that_is_answered_and_nothing_else_is_supervised(tokenizers, llama3, values, has_image):
    if has_image:
        values = ["<image>\n" + values[0], *values[1:]]
    turns, answers = talk_of(*values), values[1::2]
    for setting in ("legacy off", "legacy on"):
        tokenizer = tokenizers[setting]
        encoded = encode_conversation(tokenizer, turns, "vicuna-v1", has_image=has_image)
        end_token = tokenizer.eos_token
        expected = "".join(f" {answer}{end_token}" for answer in answers if answer)
        assert supervised_text(tokenizer, encoded) == expected.replace("▁", " ")
        assert encoded.num_images == has_image
    encoded = encode_conversation(llama3, turns, "llama-3", has_image=has_image)
    expected = "".join(f"{answer.strip()}<|eot_id|>" for answer in answers if answer.strip())
    assert llama3.decode([label for label in encoded.labels if label != IGNORE_INDEX]) == expected


def test_label_ids_are_the_golden_ones(tokenizers):
    golden = json.loads((golden_dir("analysis") / "label_embeddings.json").read_text())
    assert golden["labels"]
    for tokenizer in tokenizers.values():
        for label in golden["labels"]:
            assert encode_label(tokenizer, label["tag"]) == label["ids"]


@pytest.mark.parametrize("tag", ["dog", "red cup", "table", "TV", "é"])
def test_a_label_is_the_word_behind_another(tokenizers, llama3, tag):
    for tokenizer in (*tokenizers.values(), llama3):
        before = tokenizer("the", add_special_tokens=False).input_ids
        both = tokenizer(f"the {tag}", add_special_tokens=False).input_ids
        assert encode_label(tokenizer, tag) == both[len(before) :]
        assert encode_label(tokenizer, f" {tag} ") == encode_label(tokenizer, tag)
    alone = llama3(tag, add_special_tokens=False).input_ids
    assert encode_label(llama3, tag) != alone


@pytest.mark.parametrize("tag", ["", "  ", "<|eot_id|>", "dog<|eot_id|>"])
def test_a_label_without_words_is_refused(llama3, tag):
    with pytest.raises(TextError, match="no words to embed"):
        encode_label(llama3, tag)
