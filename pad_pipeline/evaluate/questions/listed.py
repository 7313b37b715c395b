"""Questions in a list of one's own, JSON or JSON Lines: plain fields, or LLaVA's conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import (
    IMAGE,
    ConversationError,
    has_conversation,
    image_paths,
    read_conversation,
)
from pad_pipeline.sources.entries import PATH_KEYS, describe, first_of, read_entries

Row = tuple[str, str, str | None, dict[str, Any]]
"""Id, text, path of the image, and the fields that go along."""

_ID_KEYS = ("question_id", "id", "index")
_TEXT_KEYS = ("question", "text", "prompt", "sentence")
REFERENCE_KEYS = ("references", "captions", "caption", "answers", "answer", "label")
_KEPT = ("category", "bbox", "width", "height", "choices", "A", "B", "C", "D", "question")


def read_rows(source: str, *, text: str | None = None, referenced: bool = True) -> list[Row]:
    """The questions of a list, in their order; with `text` all ask that.

    An entry has an id (`question_id` or `id`, else its number), a question, an image (or none) and
    references. Of a conversation, the first question and its answer are taken. Raises
    `UserError` for an entry without a question, without `referenced` references, and an id that
    occurs twice.
    """
    rows: list[Row] = []
    seen: set[str] = set()
    for number, entry in enumerate(read_entries(source), 1):
        where = f"entry {number} of {source}"
        if not isinstance(entry, Mapping):
            raise UserError(f"{where} is {describe(entry)}; expected an object")
        try:
            row = _row(entry, number, where, text, referenced)
        except ConversationError as error:
            raise UserError(f"{where} cannot be read: {error}") from error
        if row[0] in seen:
            raise UserError(f"{where} has the id {row[0]} of an earlier one; ids must be unique")
        seen.add(row[0])
        rows.append(row)
    if not rows:
        raise UserError(f"{source} holds no questions")
    return rows


def _row(
    entry: Mapping[str, Any], number: int, where: str, text: str | None, referenced: bool
) -> Row:
    question, references = first_of(entry, _TEXT_KEYS), first_of(entry, REFERENCE_KEYS)
    if has_conversation(entry):
        conversation = read_conversation(entry)
        question = next((t.text for t in conversation.turns if t.role == "user"), None)
        references = conversation.first_answer
        paths = conversation.images
    else:
        paths = image_paths(entry, (*PATH_KEYS, "images"))
    if len(paths) > 1:
        raise UserError(f"{where} has several images; the model takes one")
    if text is None and not isinstance(question, str):
        raise UserError(f"{where} has no question; expected one of {', '.join(_TEXT_KEYS)}")
    entry_kept = {key: entry[key] for key in _KEPT if entry.get(key) is not None}
    if references is not None:
        entry_kept["references"] = as_references(references)
    elif referenced and "bbox" not in entry_kept:
        raise UserError(f"{where} has no references; expected one of {', '.join(REFERENCE_KEYS)}")
    name = first_of(entry, _ID_KEYS)
    asked = text if text is not None else str(question).replace(IMAGE, "").strip()
    return str(number if name is None else name), asked, paths[0] if paths else None, entry_kept


def as_references(value: Any) -> Any:
    """References as a list of texts; those of VQA's annotators stand in objects with `answer`."""
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return [
        one["answer"] if isinstance(one, Mapping) and "answer" in one else one for one in values
    ]
