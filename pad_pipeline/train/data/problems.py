"""What can be wrong with a sample once its text is tokens: it is used in part, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Problem(StrEnum):
    """A kind of problem; its value names a metric."""

    CUT = "cut"
    IMAGE_CUT = "image_cut"
    ANSWER_CUT = "answer_cut"
    UNUSABLE_TEXT = "unusable_text"
    NOT_SHOWN = "not_shown"
    NO_ANSWER = "no_answer"
    TAG = "tag"


DESCRIPTIONS: Mapping[Problem, str] = {
    Problem.CUT: "cut, as the text is longer than max_length",
    Problem.IMAGE_CUT: "without its image, as the text before it is longer than max_length",
    Problem.ANSWER_CUT: "not learnt from, as its answer begins behind max_length",
    Problem.UNUSABLE_TEXT: "not learnt from, as its text cannot be used",
    Problem.NOT_SHOWN: "without its image, as no <image> stands in the text",
    Problem.NO_ANSWER: "not learnt from, as it has no answer",
    Problem.TAG: "without a region whose tag the tokenizer cannot encode",
}
"""What becomes of a sample, as it reads behind "the sample is"."""


def metrics_of(counts: Iterable[float]) -> dict[str, float]:
    """A step's metrics: the samples with any problem, and those of each kind that occurs.

    `counts` are in the order of `Problem`.
    """
    counts = list(counts)
    named = {f"problems/{p}": n for p, n in zip(Problem, counts, strict=True) if n}
    return {"problem_samples": sum(counts), **named}


def describe_counts(counts: Mapping[str, int]) -> list[str]:
    """A line for each kind, with the most frequent first: `12 samples cut, as …`."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [
        f"{number:,} sample{'s' * (number != 1)} {DESCRIPTIONS[Problem(kind)]}"
        for kind, number in ordered
    ]
