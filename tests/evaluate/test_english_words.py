"""The list of English words that tokenmaps show in colour."""

from __future__ import annotations

import re

from pad_pipeline.evaluate.english_words import WORDS, english_words


def test_the_list_has_words_of_all_kinds_and_nothing_else() -> None:
    words = english_words()
    assert 30_000 < len(words) < 100_000
    assert WORDS.stat().st_size < 250_000
    assert words >= {"a", "the", "dog", "dogs", "running", "red", "traffic", "balloon", "between"}
    assert words.isdisjoint({"ing", "tion", "xq", "b", "london"})
    assert all(re.fullmatch("[a-z]+", word) for word in words)


def test_whose_list_it_is_stands_beside_it() -> None:
    assert "Kevin Atkinson" in (WORDS.parent / "COPYRIGHT").read_text(encoding="utf-8")
    assert "SCOWL" in (WORDS.parent / "README.md").read_text(encoding="utf-8")
