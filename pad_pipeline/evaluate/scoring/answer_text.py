"""Short answers made comparable, as the VQA benchmarks' own scripts do."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})

_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't "
    "mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't "
    "she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd "
    "someone'd've someone'll someone's something'd something'd've something'll that's there'd "
    "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've "
    "we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've "
    "who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll "
    "y'all'd've you'd you'd've you'll you're you've"
)
_SPELT_OUT = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, sign in enumerate(word)
    if sign == "'"
} | {"somebody'd": "somebodyd"}
"""A contraction without one of its apostrophes -> the contraction. The last entry is the wrong way
round, as it is in the public table; "im", "ive" and "id've" stand there in capitals and change
nothing in a text of small letters."""

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the public script gives a flag in the place of this number


def evalai_normalise(text: str) -> str:
    """Lower case, no articles and punctuation, numbers as digits: EvalAI's rule.

    That of VizWiz, OK-VQA and TextVQA as they are scored in public.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    whole = text
    for mark in _MARKS:
        apart = f"{mark} " in whole or f" {mark}" in whole or _COMMA_IN_NUMBER.search(whole)
        text = text.replace(mark, "" if apart else " ")
    text = _PERIOD.sub("", text, count=_MOST_PERIODS)
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join(_SPELT_OUT.get(word, word) for word in words if word not in _ARTICLES)


def ten_annotators(answer: str, references: Sequence[str]) -> float:
    """The accuracy of an answer against those of several people, all normalised.

    The mean over the people of min(1, matches among the others / 3).
    """
    given = evalai_normalise(answer)
    matches = [evalai_normalise(reference) == given for reference in references]
    number = sum(matches)
    return sum(min(1.0, (number - is_same) / 3) for is_same in matches) / len(matches)


def without_punctuation(text: str) -> str:
    """Lower case without ASCII punctuation, which lmms-eval ignores in an exact match."""
    return text.lower().translate(str.maketrans("", "", string.punctuation))
