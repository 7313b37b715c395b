"""Which tokenizers can be used, and how they are read."""

from __future__ import annotations

import importlib.util
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.text.encode import encode_caption, encode_conversation, load_tokenizer
from pad_pipeline.train.text.tokenizer import OffsetTokenizer, offset_tokenizer
from tests.golden_data import golden_dir
from tests.train.text.byte_level import byte_level_tokenizer
from tests.train.text.texts import talk_of

CONVERSATION = talk_of("<image>\nWhat is it?", "It is a cat.")


def test_a_token_starts_with_its_space(tokenizers):
    """Some post-processors cut it off the offsets."""
    backend = byte_level_tokenizer().backend_tokenizer
    for pieces in (
        OffsetTokenizer(backend),
        *(offset_tokenizer(tokenizer) for tokenizer in tokenizers.values()),
    ):
        tokens = pieces.encode("the dog is")
        starts = [start for _, start in tokens]
        assert {0, 3, 7} <= set(starts)
        assert not {4, 8} & set(starts[:-1])


def test_tokens_added_later_are_seen():
    tokenizer = byte_level_tokenizer()
    before = encode_caption(tokenizer, "a <new> dog")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    after = encode_caption(tokenizer, "a <new> dog")
    assert len(after.input_ids) < len(before.input_ids)
    assert tokenizer.convert_tokens_to_ids("<new>") in after.input_ids


def test_threads_share_a_tokenizer():
    texts = [f"a dog and {number} cups" for number in range(50)]
    expected = [encode_caption(byte_level_tokenizer(), text) for text in texts]
    fresh = byte_level_tokenizer()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: encode_caption(fresh, text), texts)) == expected


def test_padding_and_truncation_of_the_file_are_not_applied():
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    expected = encode_caption(byte_level_tokenizer(), "a dog on the table and a red cup")
    assert encode_caption(tokenizer, "a dog on the table and a red cup") == expected


def test_a_tokenizer_without_a_needed_token_is_refused():
    tokenizer = byte_level_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="-of-text token; set eos_token"):
        encode_conversation(tokenizer, CONVERSATION, "vicuna-v1", has_image=True)


def test_llama3s_format_needs_its_tokens(tokenizers):
    with pytest.raises(UserError, match=r"<\|start_header_id\|> and .* and <\|eot_id\|>"):
        encode_conversation(tokenizers["legacy off"], CONVERSATION, "llama-3", has_image=True)


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        bos_token_id = 1

    with pytest.raises(UserError, match="give a model with a fast tokenizer"):
        encode_caption(Slow(), "a dog")


def test_loads_a_directory(tmp_path):
    byte_level_tokenizer().save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert encode_caption(loaded, "a dog") == encode_caption(byte_level_tokenizer(), "a dog")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "the directory holds no tokenizer; expected tokenizer.json"),
        ({"tokenizer.json": "{"}, "its tokenizer.json cannot be read"),
        ({"tokenizer.json": '{"version": "1.0"}'}, "its tokenizer.json cannot be read"),
        ({"config.json": '{"model_type": "llama"}'}, "holds no tokenizer"),
    ],
)
def test_a_directory_without_a_readable_tokenizer(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(message)) as found:
        load_tokenizer(tmp_path)
    assert "\n" not in str(found.value)


def test_a_sentencepiece_file_alone_needs_another_package(tmp_path):
    if importlib.util.find_spec("sentencepiece") is not None:
        pytest.skip("sentencepiece is installed: the file can be read")
    source = golden_dir("llava_text") / "tokenizer"
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(source / name, tmp_path)
    with pytest.raises(UserError, match="pip install sentencepiece"):
        load_tokenizer(tmp_path)


def test_an_unknown_name_is_neither_directory_nor_model(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing-at-all", "no/such/directory"):
        with pytest.raises(UserError, match=f"no tokenizer in {name}: it is no directory"):
            load_tokenizer(name)
