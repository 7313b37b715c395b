"""A phrase is encoded once, and its features depend on nothing but itself."""

from __future__ import annotations

import pytest
import torch
from transformers.models.grounding_dino.modeling_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map,
)

from pad_pipeline.models.grounding_dino.network import Network
from pad_pipeline.models.grounding_dino.phrases import (
    SEPARATOR_IDS,
    SHORT,
    divide_into_phrases,
    encode_phrases,
    encode_texts,
)
from pad_pipeline.models.grounding_dino.prepare import prepare_network
from tests.models.grounding_dino.golden import TOLERANCE, Golden

CLS, SEP, STOP, QUESTION = SEPARATOR_IDS
CAPTIONS = ["dog. red car. tree.", "a small brown cat with an orange ball. dog. table?", "tree."]


@pytest.fixture(scope="module")
def tiny() -> Golden:
    return Golden("gdino_tiny")


@pytest.fixture
def network(tiny: Golden) -> Network:
    return prepare_network(tiny.model().eval())


def whole_prompts(network: Network, ids: torch.Tensor) -> torch.Tensor:
    """The features of padded prompts by one pass of the text encoder, as in the original."""
    core = network.module.model
    mask, positions = generate_masks_with_special_tokens_and_transfer_map(ids, core.special_tokens)
    hidden = core.text_backbone(ids, mask[:, None], torch.zeros_like(ids), positions)
    return core.text_projection(hidden.last_hidden_state)


@torch.inference_mode()
def test_prompts_have_the_features_of_whole_prompts(tiny: Golden, network: Network) -> None:
    padded = tiny.tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    texts = encode_texts(network, tiny.tokenizer(CAPTIONS)["input_ids"])
    expected = whole_prompts(network, padded["input_ids"])
    assert (texts.tokens - expected).abs().max() < TOLERANCE / 10
    assert texts.padding is not None
    assert torch.equal(texts.padding, padded["attention_mask"] == 0)


@torch.inference_mode()
def test_features_are_the_same_bit_for_bit_whatever_was_asked_before(
    tiny: Golden, network: Network
) -> None:
    ids = tiny.tokenizer(CAPTIONS)["input_ids"]
    phrases = list(dict.fromkeys(phrase for row in ids for phrase in divide_into_phrases(row)))
    assert {len(phrase) > max(SHORT) for phrase in phrases} == {True, False}
    together = encode_phrases(network, phrases)
    for phrase, features in zip(phrases, together, strict=True):
        [alone] = encode_phrases(network, [phrase])
        assert features.shape[0] == len(phrase)
        assert torch.equal(alone, features)
    for phrase, features in zip(phrases, encode_phrases(network, phrases[::-1])[::-1], strict=True):
        assert torch.equal(features, together[phrases.index(phrase)])


@torch.inference_mode()
def test_a_phrase_is_encoded_once(tiny: Golden, network: Network) -> None:
    passes = []
    network.module.model.text_backbone.register_forward_hook(lambda *_: passes.append(1))
    first = encode_texts(network, tiny.tokenizer(CAPTIONS)["input_ids"])
    count = len(passes)
    assert count > 0
    again = encode_texts(network, tiny.tokenizer(CAPTIONS)["input_ids"])
    encode_texts(network, tiny.tokenizer(["table? tree. dog."])["input_ids"])
    assert torch.equal(first.tokens, again.tokens)
    assert len(passes) == count


def test_a_prompt_is_divided_behind_each_separator() -> None:
    ids = [CLS, 7, 8, STOP, STOP, 9, QUESTION, SEP]
    expected = [(CLS,), (7, 8, STOP), (STOP,), (9, QUESTION), (SEP,)]
    assert list(divide_into_phrases(ids)) == expected
    with pytest.raises(ValueError, match="separator"):
        list(divide_into_phrases([CLS, 7]))
