"""Answers to questions as JSON Lines: `question_id`, `answer`, and what the benchmark needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.sources.entries import describe, read_entries

_ANSWER_KEYS = ("answer", "text")
"""`text` is what LLaVA's own scripts write."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `entry` is its whole line, with the references and other fields."""

    question_id: str
    text: str
    entry: Mapping[str, Any]
    source: str

    def get(self, name: str, expected: str) -> Any:
        """A field that the benchmark needs; `UserError` that says what is `expected` there."""
        if self.entry.get(name) is None:
            raise UserError(
                f"question {self.question_id} of {self.source} has no {name!r}: {expected}"
            )
        return self.entry[name]

    def wrong(self, name: str, expected: str) -> UserError:
        """The error for a field that holds something else than is `expected`."""
        return UserError(
            f"question {self.question_id} of {self.source} has {name!r} "
            f"{describe(self.entry.get(name))}; expected {expected}"
        )

    def texts(self, name: str = "references") -> list[str]:
        """A field that is a text or a list of one or more."""
        value = self.get(name, "expected a text or a list of texts")
        texts = value if isinstance(value, list) else [value]
        texts = [str(each) if _is_number(each) else each for each in texts]
        if not texts or not all(isinstance(each, str) for each in texts):
            raise self.wrong(name, "a text or a list of texts")
        return texts


def read_answers(url: str) -> list[Answer]:
    """The answers of a .jsonl (or a JSON list) in their order.

    Raises `UserError` for an entry without `question_id` or answer, an id that occurs twice, and a
    file that holds none.
    """
    answers: list[Answer] = []
    seen: set[str] = set()
    for number, entry in enumerate(read_entries(url), 1):
        answer = read_answer(entry, f"entry {number} of {url}", url)
        if answer.question_id in seen:
            raise UserError(
                f"{url} answers question {answer.question_id} twice; every question_id needs to be "
                "its own"
            )
        seen.add(answer.question_id)
        answers.append(answer)
    if not answers:
        raise UserError(f"{url} holds no answers; expected lines with question_id and answer")
    return answers


def read_answer(entry: Any, where: str, source: str) -> Answer:
    """One line as an answer; `where` names it in a `UserError`."""
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is {describe(entry)}; expected an object")
    name = entry.get("question_id")
    if not (isinstance(name, str) and name) and not _is_number(name):
        raise UserError(f"{where} has the question_id {describe(name)}; expected a text or number")
    key = next((key for key in _ANSWER_KEYS if key in entry), "answer")
    value = entry.get(key)
    if not isinstance(value, str) and not _is_number(value):
        raise UserError(
            f"{where} has the {key} {describe(value)}; expected a text, which may be empty"
        )
    return Answer(str(name), str(value), entry, source)


def check_same_questions(ours: Sequence[Answer], theirs: Sequence[Answer]) -> None:
    """Raise `UserError` where two evaluations are not of the same questions with the same truth."""
    if not ours or not theirs:
        return
    a, b = ({answer.question_id: answer for answer in answers} for answers in (ours, theirs))
    if differing := a.keys() ^ b.keys():
        example = sorted(differing)[0]
        raise UserError(
            f"{theirs[0].source} and {ours[0].source} answer different questions "
            f"({len(differing):,} are in one of the two alone, such as {example}); compare runs on "
            "the same samples"
        )
    for name, answer in a.items():
        if answer.entry.get("references") != b[name].entry.get("references"):
            raise UserError(
                f"{theirs[0].source} has other references for question {name} than "
                f"{ours[0].source}; compare runs on the same samples"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
