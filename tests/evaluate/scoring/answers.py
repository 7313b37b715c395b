"""Made-up answers."""

from __future__ import annotations

from pad_pipeline.evaluate.answers import Answer


def answer(number: int | str, text: str, **entry: object) -> Answer:
    return Answer(
        str(number), text, {"question_id": number, "answer": text, **entry}, "answers.jsonl"
    )
