"""All questions answered in batches of a fixed composition, each kept as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pad_pipeline import storage
from pad_pipeline.evaluate.generation.config import Answerer
from pad_pipeline.evaluate.questions.question import Question

BATCHES = "_batches"

Progress = Callable[[int, int], None]
"""Called with the number of answered questions and of all."""


def make_batches(questions: Sequence[Question], batch_size: int) -> list[list[int]]:
    """Places of the questions, batch by batch: like with like, the longest first.

    They depend on the questions alone, so that a run that goes on has the same batches: other
    batches may give other answers in the last bits.
    """
    order = sorted(
        range(len(questions)),
        key=lambda place: (questions[place].image is None, -len(questions[place].text), place),
    )
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def answer_batches(
    answerer: Answerer,
    questions: Sequence[Question],
    batches: Sequence[tuple[int, list[int]]],
    max_new_tokens: int,
) -> Iterator[tuple[int, list[str]]]:
    """(number of the batch, its answers), one after the other; the next one's images are read
    while the model works."""
    with ThreadPoolExecutor(1) as reader:

        def prepare(places: list[int]) -> list[object]:
            return [answerer.prepare(questions[place]) for place in places]

        coming = None
        for index, (number, places) in enumerate(batches):
            prepared = (coming or reader.submit(prepare, places)).result()
            if index + 1 < len(batches):
                coming = reader.submit(prepare, batches[index + 1][1])
            yield number, answerer.answer(prepared, max_new_tokens)


def collect_answers(
    url: str,
    questions: Sequence[Question],
    batch_size: int,
    run: Callable[[Sequence[tuple[int, list[int]]]], Iterator[tuple[int, list[str]]]],
    progress: Progress | None = None,
) -> list[str]:
    """The answer to every question, in the questions' order.

    `run` answers the batches that it is given, in any order. Each is kept below `url` once it is
    answered; the same call later asks for those alone that are not there. `discard_batches` ends
    that.
    """
    batches = make_batches(questions, batch_size)
    answers: list[str | None] = [None] * len(questions)
    folder = storage.join(url, BATCHES)

    def keep(number: int, texts: Sequence[str]) -> None:
        for place, text in zip(batches[number], texts, strict=True):
            answers[place] = text
        if progress is not None:
            progress(sum(answer is not None for answer in answers), len(questions))

    there = set(storage.list_files(folder)) if storage.exists(folder) else set()
    for number in range(len(batches)):
        if _name(number) in there:
            keep(number, json.loads(storage.read_bytes(storage.join(folder, _name(number)))))
    missing = [
        (number, places)
        for number, places in enumerate(batches)
        if any(answers[place] is None for place in places)
    ]
    for number, texts in run(missing) if missing else ():
        text = json.dumps(texts)
        storage.write_atomic(storage.join(folder, _name(number)), text.encode())
        keep(number, texts)
    assert all(answer is not None for answer in answers)
    return [str(answer) for answer in answers]


def discard_batches(url: str) -> None:
    """Remove what `collect_answers` kept, once the answers are written elsewhere."""
    storage.remove_tree(storage.join(url, BATCHES))


def with_prompt(question: Question, prompt: str) -> Question:
    """The question as it is put to the model."""
    return replace(question, text=prompt.replace("{question}", question.text))


def _name(number: int) -> str:
    return f"{number:06d}.json"
