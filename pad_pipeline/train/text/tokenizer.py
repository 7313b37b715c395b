"""Text to token ids with the character at which each token starts.

SentencePiece marks the beginning of a word with U+2581. Where it puts a mark without a space is a
property of the model that the field calls `legacy`: off, at the beginning of a text only; on, also
behind every special token. transformers (5.23) follows that, but drops the mark where the text
begins with a space, while SentencePiece writes two. The originals of this project's ids were made
with SentencePiece, so ids are computed here through the `tokenizers` library on a copy of the
tokenizer's backend that puts a mark where SentencePiece does, before a space too. All other kinds
of tokenizers, byte-level BPE among them, are used as they are, without special tokens added.
"""

from __future__ import annotations

import copy
import threading
import weakref
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from pad_pipeline.errors import UserError

MARK = "▁"
"""U+2581, SentencePiece's sign for a space."""


class OffsetTokenizer:
    """What encodes text for one tokenizer; safe to share between threads."""

    def __init__(self, backend: Tokenizer) -> None:
        """`backend` is the tokenizer of the `tokenizers` library; it is copied."""
        self._backend: Any = copy.deepcopy(backend)
        self._backend.no_truncation()
        self._backend.no_padding()
        # Some trim the white space off the offsets, some add special tokens.
        self._backend.post_processor = None
        added = backend.get_added_tokens_decoder()
        self.special = {token.content: number for number, token in added.items() if token.special}
        """Ids of the special tokens, by their text."""
        self._mark = _mark_of(backend)
        if self._mark is not None:
            self._own_marks(list(added.values()))

    def encode(self, text: str) -> list[tuple[int, int]]:
        """(id, index of the first character) of each token of `text`; none added."""
        if not text:
            return []
        if self._mark != "first":
            return self._encode(text)
        tokens = [(token, max(start - 1, 0)) for token, start in self._encode(MARK + text)]
        lone = self._backend.token_to_id(MARK)
        if len(tokens) > 1 and tokens[0][0] == lone and tokens[1][0] in self.special.values():
            return tokens[1:]
        return tokens

    def encode_word(self, word: str) -> list[int]:
        """Ids of `word` as it stands behind another word."""
        text = word if self._mark == "every" else (MARK if self._mark else " ") + word
        return [token for token, _ in self._encode(text)]

    def _encode(self, text: str) -> list[tuple[int, int]]:
        encoding = self._backend.encode(text, add_special_tokens=False)
        starts = (start for start, _ in encoding.offsets)
        return list(zip(encoding.ids, starts, strict=True))

    def _own_marks(self, added: list[AddedToken]) -> None:
        """Replace what writes marks in the copy; "first" is then written by `encode`."""
        pre_tokenizer = self._backend.pre_tokenizer
        if isinstance(pre_tokenizer, pre_tokenizers.Metaspace):
            pre_tokenizer.prepend_scheme = "never"
            self._backend.pre_tokenizer = pre_tokenizer
            if self._mark == "every":
                existing = self._backend.normalizer
                steps = [existing] if existing is not None else []
                self._backend.normalizer = normalizers.Sequence([*steps, normalizers.Prepend(MARK)])
        # Normalised ones would be searched with a mark in front, and not found.
        special = [
            AddedToken(token.content, lstrip=token.lstrip, rstrip=token.rstrip, normalized=False)
            for token in added
            if token.special
        ]
        self._backend.add_special_tokens(special)


def offset_tokenizer(tokenizer: Any) -> OffsetTokenizer:
    """The `OffsetTokenizer` of a transformers tokenizer, made once for each.

    Raises `UserError` where the tokenizer is not one of the `tokenizers` library.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UserError(
            f"{type(tokenizer).__name__} cannot say at which character a token starts; give a "
            "model with a fast tokenizer (a tokenizer.json)"
        )
    size = backend.get_vocab_size()
    with _lock:
        known = _known.get(tokenizer)
        if known is None or known[0] != size:  # tokens may have been added since
            known = _known[tokenizer] = (size, OffsetTokenizer(backend))
    return known[1]


_known: weakref.WeakKeyDictionary[Any, tuple[int, OffsetTokenizer]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _mark_of(backend: Tokenizer) -> str | None:
    """Where marks are written without a space: "first", "every", or None for nowhere.

    transformers turns `legacy` into the scheme of a Metaspace pre-tokenizer; a tokenizer.json that
    is read as it is prepends in its normalizer, at every stretch of text.
    """
    pre_tokenizer: Any = backend.pre_tokenizer
    if isinstance(pre_tokenizer, pre_tokenizers.Metaspace):
        scheme = pre_tokenizer.prepend_scheme
        return {"first": "first", "always": "every"}.get(scheme)
    normalizer: Any = backend.normalizer
    is_sequence = isinstance(normalizer, normalizers.Sequence)
    steps: Any = normalizer if is_sequence else [normalizer]
    return "every" if any(isinstance(step, normalizers.Prepend) for step in steps) else None
