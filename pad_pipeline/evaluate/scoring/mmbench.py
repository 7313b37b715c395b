"""MMBench: choices asked in every rotation; right is who is right in all of them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.scoring.scores import Scores, mean_metric

LETTERS = ("A", "B", "C", "D")
_ROTATION = 1_000_000
"""Rotations of a question have its index plus a multiple of this."""
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_ALONE = re.compile(r"[(\[]?([A-D])[)\].,:]?(?=\s|$)")


def read_choice(text: str, choices: dict[str, str]) -> str | None:
    """The letter that an answer chooses; None where no rule reads it, which a judge might.

    A letter at the beginning (`B`, `B.`, `(B)`), else the one choice whose text is the answer or
    stands in it.
    """
    text = text.strip()
    found = _ALONE.match(text)
    if found and found[1] in choices:
        return found[1]
    said = text.lower().rstrip(".")
    equal = [letter for letter, choice in choices.items() if choice.lower().rstrip(".") == said]
    if len(equal) == 1:
        return equal[0]
    named = [letter for letter, choice in choices.items() if choice.lower() in said]
    return named[0] if len(named) == 1 else None


def score_mmbench(answers: Sequence[Answer]) -> Scores:
    """MMBench: the share of questions that are answered right in every rotation (`circular`), and
    of all rows (`vanilla`).

    `references` is the letter, `A` to `D` the choices, `question_id` the index, by which the
    rotations of a question belong together; they are drawn whole for the intervals. An answer that
    no rule reads counts as wrong. Without any references, as those of the test split, nothing is
    measured: `submission` is for its server.
    """
    if all(answer.entry.get("references") is None for answer in answers):
        nothing = np.full(len(answers), np.nan)
        reason = "not measured: the questions have no references; submit submission.xlsx"
        return Scores(
            main="vanilla",
            metrics={},
            per_sample={"vanilla": nothing},
            not_measured={"circular": reason, "vanilla": reason},
        )
    letters = [read_choice(answer.text, choices_of(answer)) for answer in answers]
    right = np.array(
        [_truth(answer) == letter for answer, letter in zip(answers, letters, strict=True)], float
    )
    known: dict[int, int] = {}
    groups = np.array([known.setdefault(_base(a), len(known)) for a in answers], np.int64)
    sizes = np.bincount(groups)
    all_right = np.bincount(groups, right) == sizes
    is_first = np.zeros(len(answers), bool)
    is_first[np.unique(groups, return_index=True)[1]] = True
    circular = np.where(is_first, all_right[groups].astype(float), np.nan)
    return Scores(
        main="vanilla",
        metrics={"circular": mean_metric(circular), "vanilla": mean_metric(right)},
        per_sample={"vanilla": right, "circular": circular},
        groups=groups,
        unread=tuple(place for place, letter in enumerate(letters) if letter is None),
    )


def submission(answers: Sequence[Answer]) -> bytes:
    """The .xlsx that MMBench's server takes: index, question, choices and prediction.

    Raises `UserError` where openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise UserError(
            "MMBench's submission is an .xlsx, which needs openpyxl; "
            "`pip install 'pad-pipeline[evaluate]'`"
        ) from error
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["index", "question", *LETTERS, "prediction"])
    for answer in answers:
        choices = choices_of(answer)
        question = str(answer.entry.get("question") or answer.entry.get("prompt") or "")
        texts = [question, *(choices.get(letter, "") for letter in LETTERS), answer.text]
        sheet.append([int(answer.question_id), *(_ILLEGAL.sub(" ", text) for text in texts)])
        for cell in sheet[sheet.max_row][1:]:
            cell.data_type = "s"  # never a formula, whatever a model answers
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def choices_of(answer: Answer) -> dict[str, str]:
    """The choices of a question by letter; those that are empty are none."""
    found = {letter: answer.entry.get(letter) for letter in LETTERS}
    texts = {
        letter: str(text).strip()
        for letter, text in found.items()
        if text is not None and str(text).strip() and str(text) != "nan"
    }
    if len(texts) < 2:
        raise answer.wrong("A", "the choices in A, B, C, D")
    return texts


def _truth(answer: Answer) -> str:
    texts = answer.texts()
    if len(texts) != 1 or texts[0] not in choices_of(answer):
        raise answer.wrong("references", "the letter of one of the choices")
    return texts[0]


def _base(answer: Answer) -> int:
    if not answer.question_id.isdecimal():
        raise answer.wrong("question_id", "MMBench's index, a number")
    return int(answer.question_id) % _ROTATION
