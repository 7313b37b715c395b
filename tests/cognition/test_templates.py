from __future__ import annotations

import re
from pathlib import Path

import pytest

from pad_pipeline.cognition.templates import HIGH_LEVEL, IMAGE_WORDS, LOW_LEVEL

SEED = next(Path(__file__).parents[3].glob("shared/seeds/004_*.txt"), None)


def test_there_are_twenty_of_each_and_each_names_the_image_once() -> None:
    assert len(set(HIGH_LEVEL)) == len(set(LOW_LEVEL)) == 20
    assert all(text.count(IMAGE_WORDS) == 1 for text in (*HIGH_LEVEL, *LOW_LEVEL))
    assert all(
        text.endswith((".", "?")) and text[0].isupper() for text in (*HIGH_LEVEL, *LOW_LEVEL)
    )
    assert all(re.search(r"\bVQ", text) for text in HIGH_LEVEL)
    assert all("RGB value" in text for text in LOW_LEVEL)


@pytest.mark.skipif(SEED is None, reason="the appendix's text is not beside this checkout")
def test_they_are_those_of_the_appendix_word_for_word() -> None:
    assert SEED is not None
    text = SEED.read_text(encoding="utf-8").partition("Table 5: The list")[0]
    printed = [part.split("\n\n")[0] for part in text.split("•")[1:]]
    # hyphens at the end of a printed line are the printer's
    mended = [" ".join(re.sub(r"-\n(?=[a-z])", "", part).split()) for part in printed]
    assert mended == [*HIGH_LEVEL, *LOW_LEVEL]
