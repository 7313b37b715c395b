"""Lists of words as people write them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pad_pipeline.engine.words import as_lines, read_words
from pad_pipeline.errors import UserError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog", ("dog",)),
        ("dog, red  car ,", ("dog", "red car")),
        ("dog . red car. a cat .", ("dog", "red car", "a cat")),
        ("no. 5 bus, dog", ("no. 5 bus", "dog")),
        ("dog\ncat, black\n", ("dog", "cat, black")),
        ("çay\r\n日本\n", ("çay", "日本")),
    ],
)
def test_words_of_a_text(text: str, words: tuple[str, ...]) -> None:
    assert read_words("classes", text) == words
    assert read_words("classes", as_lines(words)) == words


def test_words_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffdog\nsalt, pepper".encode())
    assert read_words("classes", str(path)) == ("dog", "salt, pepper")
    path.write_text("just one")
    assert read_words("classes", str(path)) == ("just one",)
    assert read_words("classes", tmp_path.name) == (tmp_path.name,)


def test_what_is_there_twice_counts_once_and_is_named(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_words("classes", "dog, Cat, DOG, cat, dog") == ("dog", "Cat")
    assert "3 words are there more than once; each counts once (DOG, cat, dog)" in caplog.text


def test_bad_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    for text in ("", " , ,", ".", str(tmp_path / "empty.txt")):
        with pytest.raises(UserError, match='classes holds no words; expected some such as "dog'):
            read_words("classes", text)
    with pytest.raises(UserError, match=r"no such file: gone\.txt \(classes\)"):
        read_words("classes", "gone.txt")
