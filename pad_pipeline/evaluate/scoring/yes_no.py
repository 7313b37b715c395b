"""POPE and MME: questions that are answered with yes or no."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.scoring.scores import (
    Metric,
    Resampled,
    Scores,
    divide,
    exact_metric,
    mean_metric,
)

PERCEPTION = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark"),
    *("artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
"""The two groups of MME's categories whose scores are summed."""


def read_pope(text: str) -> bool:
    """Whether an answer says yes: LLaVA's rule for POPE, which reads every answer.

    No is what has "No", "no" or "not" as a word of the first sentence, commas aside.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"}.intersection(words)


def read_mme(text: str) -> bool | None:
    """Whether an answer says yes: MME's rule, by the first four characters; None for neither."""
    text = text.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": True, "n": False}.get(text)
    if "yes" in text[:4]:
        return True
    return False if "no" in text[:4] else None


def score_pope(answers: Sequence[Answer]) -> Scores:
    """POPE: accuracy, precision, recall and F1 of yes, share of yes; also by `category` (random,
    popular, adversarial), and the mean of the categories' F1."""
    truth = np.array([_truth(answer) for answer in answers], bool)
    given = np.array([read_pope(answer.text) for answer in answers], bool)
    right = (truth == given).astype(float)
    everywhere = np.ones(len(answers), bool)
    metrics = {
        "accuracy": mean_metric(right),
        **_of_yes(truth, given, everywhere),
        "yes_share": mean_metric(given),
    }
    categories = np.array([str(answer.entry.get("category", "")) for answer in answers])
    named = sorted(set(categories) - {""})
    for category in named:
        here = categories == category
        metrics[f"accuracy/{category}"] = mean_metric(np.where(here, right, np.nan))
        metrics[f"f1/{category}"] = _of_yes(truth, given, here)["f1"]
    if named:
        of_each = [metrics[f"f1/{category}"].resampled for category in named]
        metrics["f1_mean"] = exact_metric(_mean_of(of_each), len(answers))
    return Scores(main="accuracy", metrics=metrics, per_sample={"accuracy": right})


def _of_yes(
    truth: NDArray[np.bool_], given: NDArray[np.bool_], here: NDArray[np.bool_]
) -> dict[str, Metric]:
    """Precision, recall and F1 of the answer yes among the samples that are `here`."""
    hits, asked, said = truth & given & here, truth & here, given & here

    def precision(draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        return divide(draws_RN @ hits.astype(float), draws_RN @ said.astype(float))

    def recall(draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        return divide(draws_RN @ hits.astype(float), draws_RN @ asked.astype(float))

    def f1(draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        both = draws_RN @ said.astype(float) + draws_RN @ asked.astype(float)
        return divide(2 * (draws_RN @ hits.astype(float)), both)

    functions = {"precision": precision, "recall": recall, "f1": f1}
    return {name: exact_metric(function, len(truth)) for name, function in functions.items()}


def score_mme(answers: Sequence[Answer]) -> Scores:
    """MME: of each category accuracy + accuracy+ (both questions on an image right), × 100; the
    sums of perception and cognition.

    Entries have `category` and `image`, which the two questions on it share; images are drawn
    whole for the intervals.
    """
    truth = [_truth(answer) for answer in answers]
    given = [read_mme(answer.text) for answer in answers]
    right = np.array([g == t for g, t in zip(given, truth, strict=True)], float)
    categories = [str(a.get("category", "expected one of MME's categories")) for a in answers]
    images = [str(a.get("image", "expected the image that two questions share")) for a in answers]
    known: dict[tuple[str, str], int] = {}
    groups = np.array(
        [known.setdefault(key, len(known)) for key in zip(categories, images, strict=True)],
        np.int64,
    )
    sizes = np.bincount(groups, minlength=len(known))
    if (wrong := np.flatnonzero(sizes != 2)).size:
        category, image = list(known)[wrong[0]]
        raise answers[int(np.flatnonzero(groups == wrong[0])[0])].wrong(
            "image", f"two questions on each, but {image} of {category} has {sizes[wrong[0]]}"
        )
    both = (np.bincount(groups, right, minlength=len(known)) == 2)[groups].astype(float)
    names = list(dict.fromkeys(categories))
    metrics = {name: _category(right + both, np.array(categories) == name) for name in names}
    for group, members in (("perception", PERCEPTION), ("cognition", COGNITION)):
        parts = [metrics[name].resampled for name in members if name in metrics]
        if parts:
            metrics[group] = exact_metric(_sum_of(parts), len(answers))
    metrics["total"] = exact_metric(_sum_of([metrics[n].resampled for n in names]), len(answers))
    metrics["accuracy"] = mean_metric(right)
    metrics["accuracy_plus"] = mean_metric(both)
    return Scores(
        main="accuracy",
        metrics=metrics,
        per_sample={"accuracy": right, "accuracy_plus": both},
        groups=groups,
        unread=tuple(place for place, each in enumerate(given) if each is None),
    )


def _category(points: NDArray[np.float64], here: NDArray[np.bool_]) -> Metric:
    return exact_metric(
        lambda draws_RN: 100 * divide(draws_RN @ (points * here), draws_RN @ here.astype(float)),
        len(points),
    )


def _sum_of(parts: Sequence[Resampled]) -> Resampled:
    return lambda draws_RN: np.sum([part(draws_RN) for part in parts], axis=0)


def _mean_of(parts: Sequence[Resampled]) -> Resampled:
    return lambda draws_RN: np.mean([part(draws_RN) for part in parts], axis=0)


def _truth(answer: Answer) -> bool:
    texts = [text.strip().lower().rstrip(".") for text in answer.texts()]
    if texts not in (["yes"], ["no"]):
        raise answer.wrong("references", "yes or no")
    return texts == ["yes"]
