"""Questions about images, each benchmark by its official rule (and lmms-eval's where it differs).

Every scorer takes N answers whose entries hold `references`; what else a benchmark needs is said
where it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.choices import Benchmark
from pad_pipeline.evaluate.scoring.answer_text import ten_annotators, without_punctuation
from pad_pipeline.evaluate.scoring.mmbench import score_mmbench
from pad_pipeline.evaluate.scoring.scores import Metric, Scores, mean_metric
from pad_pipeline.evaluate.scoring.yes_no import score_mme, score_pope

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SENTENCE = re.compile(r"The answer is ([A-Z])\.")
_IS_LETTER = re.compile(r"[A-Z]\.")


def score_vqa(answers: Sequence[Answer], benchmark: Benchmark) -> Scores:
    """The scores of N answers by the rule of a benchmark.

    Raises `UserError` where an answer lacks what the rule needs.
    """
    return _SCORERS[benchmark](answers)


def score_gqa(answers: Sequence[Answer]) -> Scores:
    """GQA: the answer in lower case without a final "." is the reference (LLaVA's conversion for
    the official script); beside it lmms-eval's, without any punctuation."""
    truths = [_only(answer) for answer in answers]
    official = [a.text.rstrip(".").lower() == t for a, t in zip(answers, truths, strict=True)]
    ignoring = [
        without_punctuation(a.text) == without_punctuation(t)
        for a, t in zip(answers, truths, strict=True)
    ]
    return _shares({"accuracy": official, "accuracy_lmms_eval": ignoring})


def score_exact(answers: Sequence[Answer]) -> Scores:
    """Any list of questions with short answers: equal to a reference but for case and punctuation.

    Questions with a `category` get a figure each.
    """
    right = [
        without_punctuation(a.text).split()
        in [without_punctuation(text).split() for text in a.texts()]
        for a in answers
    ]
    return _shares({"accuracy": right}, [a.entry.get("category") for a in answers])


def score_annotated(answers: Sequence[Answer]) -> Scores:
    """VizWiz, OK-VQA, TextVQA: EvalAI's normalisation and the formula of ten annotators."""
    values = np.array([ten_annotators(a.text, a.texts()) for a in answers])
    return Scores(
        main="accuracy", metrics={"accuracy": mean_metric(values)}, per_sample={"accuracy": values}
    )


def score_scienceqa(answers: Sequence[Answer]) -> Scores:
    """ScienceQA: all, and IMG, the questions with an image.

    `references` is the letter; `choices`, where it is there, lists the choices, and a letter behind
    their end is wrong. `image` (or `has_image`) says that a question has one. LLaVA's rule takes
    `B`, `B. text` and a single `The answer is B.`; lmms-eval's also `b` and `B.`, not the sentence.
    """
    truths = [_only(answer).strip() for answer in answers]
    letters = [_science_letter(answer) for answer in answers]
    official = [a == t.upper() for a, t in zip(letters, truths, strict=True)]
    harness = [_is_letter(a.text, t) for a, t in zip(answers, truths, strict=True)]
    found = _shares({"accuracy": official, "accuracy_lmms_eval": harness})
    with_image = np.array(
        [bool(a.entry.get("image")) or bool(a.entry.get("has_image")) for a in answers]
    )
    image = np.where(with_image, np.array(official, float), np.nan)
    return Scores(
        main="accuracy",
        metrics={**found.metrics, "accuracy_img": mean_metric(image)},
        per_sample=found.per_sample,
        unread=tuple(place for place, letter in enumerate(letters) if letter is None),
    )


def _science_letter(answer: Answer) -> str | None:
    """The letter that LLaVA's script reads; None where it reads none that is a choice."""
    text = answer.text.strip()
    known = _LETTERS[: len(answer.texts("choices"))] if answer.entry.get("choices") else _LETTERS
    letter = None
    if len(text) == 1 or (len(text) >= 3 and text[1:3] == ". "):
        letter = text[0]
    elif len(found := _SENTENCE.findall(text)) == 1:
        letter = found[0]
    return letter if letter is not None and letter in known else None


def _is_letter(text: str, truth: str) -> bool:
    text = text.strip()
    if text.lower() == truth.lower():
        return True
    return bool(_IS_LETTER.match(text)) and text[0] == truth.upper()


def _only(answer: Answer) -> str:
    texts = answer.texts()
    if len(texts) != 1:
        raise answer.wrong("references", "one text")
    return texts[0]


def _shares(right: dict[str, list[bool]], categories: Sequence[str | None] | None = None) -> Scores:
    per_sample: dict[str, NDArray[np.float64]] = {
        name: np.array(values, float) for name, values in right.items()
    }
    main = next(iter(per_sample))
    metrics: dict[str, Metric] = {name: mean_metric(v) for name, v in per_sample.items()}
    for category in sorted({str(each) for each in categories or () if each is not None}):
        here = np.array([str(each) == category for each in categories or ()])
        metrics[f"{main}/{category}"] = mean_metric(np.where(here, per_sample[main], np.nan))
    return Scores(main=main, metrics=metrics, per_sample=per_sample)


_SCORERS: dict[Benchmark, Callable[[Sequence[Answer]], Scores]] = {
    "gqa": score_gqa,
    "scienceqa": score_scienceqa,
    "vizwiz": score_annotated,
    "ok-vqa": score_annotated,
    "textvqa": score_annotated,
    "pope": score_pope,
    "mme": score_mme,
    "mmbench": score_mmbench,
    "exact": score_exact,
}
