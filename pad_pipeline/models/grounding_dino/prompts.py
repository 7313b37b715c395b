"""Text prompts for a grounding detector: tags to token ids and back, never cutting a tag off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LabelMode = Literal["span", "phrase"]
"""How a box gets its label.

"span": the prompt is "tag. tag." and each tag is a phrase of its own; the label is the tag whose
tokens answer best. "phrase": the prompt is "tag, tag." as in the public RAM + Grounding DINO + SAM
script and the label is every token above the text threshold, which merges and splits tags.
"""

PHRASE_POSITIONS = slice(1, 255)
"""The token positions that the public script decodes: neither [CLS] nor the last of 256."""


class PromptError(Exception):
    """A tag that no prompt can hold."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text input of the detector.

    `token_ids` run from [CLS] to [SEP]; `spans[i]` is the (start, stop) of the tokens of `tags[i]`,
    which is the tag as it was given.
    """

    token_ids: tuple[int, ...]
    tags: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Separators:
    """The token ids that frame and divide a prompt."""

    start: int
    end: int
    stop: int
    question: int
    comma: int

    @classmethod
    def of(cls, tokenizer: Any) -> Separators:
        """Those of a BERT tokenizer of transformers."""
        stop, question, comma = tokenizer.convert_tokens_to_ids([".", "?", ","])
        return cls(tokenizer.cls_token_id, tokenizer.sep_token_id, stop, question, comma)

    @property
    def dividing(self) -> tuple[int, int, int, int]:
        """Those at which the detector divides a text into phrases."""
        return (self.start, self.end, self.stop, self.question)


def build_prompts(
    tags: Iterable[str],
    tokenizer: Any,
    *,
    label_mode: LabelMode = "span",
    max_tokens: int = 256,
) -> list[Prompt]:
    """The prompts that together hold every tag once, in order, each of at most `max_tokens`.

    A prompt takes tags until the next one does not fit. Tags that differ only in case or white
    space are one (the first spelling stays), and tags without a single token ("", "…" of
    separators) are left out, for there is nothing to look for; with no tags left there are no
    prompts. With `label_mode="span"` a "." or "?" inside a tag ("st. bernard") is left out of the
    prompt, since the detector would take it for the end of the tag.

    Raises `PromptError` for a tag that alone takes more than `max_tokens`.
    """
    spelled: dict[str, str] = {}
    for tag in tags:
        spelled.setdefault(" ".join(tag.lower().split()), tag)
    if not spelled:
        return []
    marks = Separators.of(tokenizer)
    # a long text needs no warning here: what does not fit is refused below
    texts = [tag.lower() for tag in spelled.values()]
    pieces = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    prompts: list[Prompt] = []
    held: list[tuple[str, list[int]]] = []
    length = 2  # [CLS] and [SEP]; each tag brings one separator
    for tag, ids in zip(spelled.values(), pieces, strict=True):
        if label_mode == "span":
            ids = [token for token in ids if token not in marks.dividing]
        if not ids:
            continue
        if 2 + len(ids) + 1 > max_tokens:
            raise PromptError(
                f"the tag {tag[:40]!r}{'…' if len(tag) > 40 else ''} takes {len(ids)} tokens, but "
                f"the detector reads at most {max_tokens - 3} in one tag; shorten it"
            )
        if length + len(ids) + 1 > max_tokens:
            prompts.append(_join(held, marks, label_mode))
            held, length = [], 2
        held.append((tag, list(ids)))
        length += len(ids) + 1
    if held:
        prompts.append(_join(held, marks, label_mode))
    return prompts


def _join(held: Sequence[tuple[str, list[int]]], marks: Separators, label_mode: str) -> Prompt:
    between = marks.stop if label_mode == "span" else marks.comma
    token_ids = [marks.start]
    spans = []
    for _, ids in held:
        spans.append((len(token_ids), len(token_ids) + len(ids)))
        token_ids += [*ids, between]
    token_ids[-1] = marks.stop
    if token_ids[-2] == marks.stop:  # the public script adds no second "."
        del token_ids[-1]
    return Prompt((*token_ids, marks.end), tuple(tag for tag, _ in held), tuple(spans))


def span_weights(prompt: Prompt, num_tokens: int) -> NDArray[np.float32]:
    """(tags, num_tokens) float32: row i averages over the tokens of tag i.

    A tag's score is the mean probability of its tokens, as in the category scores of the original's
    COCO evaluation and of MM-Grounding-DINO. The maximum, which the original's demo takes over all
    tokens, lets "fire truck" win on "truck" alone, or a tag on one of its sub-words; it is what
    makes the public script's labels odd.
    """
    weights = np.zeros((len(prompt.spans), num_tokens), np.float32)
    for row, (start, stop) in enumerate(prompt.spans):
        weights[row, start:stop] = 1 / (stop - start)
    return weights


def phrase_of(above: NDArray[np.bool_], prompt: Prompt, tokenizer: Any) -> str:
    """The public script's label: the decoded tokens where `above` (tokens,) holds; may be "".

    Adjacent or not, separators included, the first and the 256th position excluded.
    """
    chosen = np.zeros(len(prompt.token_ids), bool)
    chosen[PHRASE_POSITIONS] = above[: len(chosen)][PHRASE_POSITIONS]
    ids = [prompt.token_ids[position] for position in np.flatnonzero(chosen)]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=True)


def check_separators(tokenizer: Any, expected: Sequence[int]) -> Mapping[str, tuple[int, int]]:
    """The separators of `tokenizer` whose ids are not the `expected` ones, as (found, expected)."""
    names = ("[CLS]", "[SEP]", ".", "?")
    found = Separators.of(tokenizer).dividing
    return {
        name: (have, want)
        for name, have, want in zip(names, found, expected, strict=True)
        if have != want
    }
