"""The tokenizers that the tests of texts share."""

from __future__ import annotations

import pytest

from tests.train.text.byte_level import byte_level_tokenizer
from tests.train.text.texts import golden_tokenizers


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory):
    return golden_tokenizers(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="session")
def llama3():
    return byte_level_tokenizer()
