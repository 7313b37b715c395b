"""Lists of words that a setting holds, or names a file of."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError, plural

logger = logging.getLogger(__name__)

_NUM_NAMED = 5
_SENTENCES = re.compile(r"\.(?:\s+|$)")


def read_words(setting: str, text: str) -> tuple[str, ...]:
    """The words of a setting, each once: of a text with commas, or of a file with one a line.

    Words without commas may be separated by full stops too, as Grounded-SAM's prompts are. A text
    of several lines is the content of a file. Raises `UserError` where there are none.
    """
    if "\n" not in text and _is_file(setting, text):
        text = storage.read_bytes(text).decode("utf-8-sig", "replace") + "\n"
    return split_words(setting, text)


def split_words(setting: str, text: str) -> tuple[str, ...]:
    """`read_words` of a text that is not to name a file: it may come from anyone."""
    if "\n" in text:
        parts = text.splitlines()
    else:
        parts = text.split(",") if "," in text else _SENTENCES.split(text)
    words = [" ".join(part.split()) for part in parts]
    words = [word.rstrip(".").rstrip() for word in words if word.strip(". ")]
    if not words:
        raise UserError(Setting(setting), f" holds no words; expected some such as {_EXAMPLE}")
    return _once(setting, words)


_EXAMPLE = '"dog, red car", or a file with one a line'


def read_numbers(setting: str, text: str) -> dict[str, float]:
    """Numbers from 0 to 1 by word in lower case, written `word=number` as `read_words`' words.

    Raises `UserError` where one is none, or a word has two.
    """
    found: dict[str, float] = {}
    for entry in read_words(setting, text):
        word, _, number = entry.rpartition("=")
        word = word.strip().lower()
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not word or not 0 <= value <= 1:
            raise UserError(
                Setting(setting),
                f" should say a tag and a number from 0 to 1 as in dog=0.4, not {entry!r}",
            )
        if found.setdefault(word, value) != value:
            raise UserError(Setting(setting), f" has two numbers for {word!r}: keep one of them")
    return found


def _is_file(setting: str, text: str) -> bool:
    if storage.exists(text) and not storage.is_folder(text):
        return True
    if text.lower().endswith((".txt", ".csv", ".json")) or "://" in text:
        raise UserError("no such file: ", text, " (", Setting(setting), ")")
    return False


def _once(setting: str, words: Iterable[str]) -> tuple[str, ...]:
    """The words without those that were there before in whatever case, which the log names."""
    kept: dict[str, str] = {}
    again: list[str] = []
    for word in words:
        if word.lower() in kept:
            again.append(word)
        else:
            kept[word.lower()] = word
    if again:
        logger.warning(
            "%s: %s more than once; each counts once (%s)",
            Setting(setting),
            plural(len(again), "word is there", "words are there"),
            ", ".join(again[:_NUM_NAMED]) + (", …" if len(again) > _NUM_NAMED else ""),
        )
    return tuple(kept.values())


def as_lines(words: Iterable[str]) -> str:
    """The words as a text that `read_words` reads again."""
    return "".join(f"{word}\n" for word in words)
