"""Comparisons of two evaluations, as `evaluate` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import UserError, one_line

COMPARISON, ANSWERS = "comparison.json", "answers.jsonl"


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """A metric of both evaluations, and by how much this one has more, with its interval."""

    name: str
    value: float
    against: float
    difference: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A question that one evaluation answers better: both answers with their scores, and what the
    benchmark knows of it; `image` is the id of its image, None where it is not known."""

    question_id: str
    answer: str
    score: float
    answer_against: str
    score_against: float
    prompt: str
    references: tuple[str, ...]
    image: str | None


@dataclass(frozen=True, slots=True)
class EvaluationComparison:
    """One evaluation against another on the same questions; `by` is the metric that decides."""

    url: str
    against: str
    by: str
    metrics: tuple[MetricDifference, ...]
    wins: tuple[Verdict, ...]
    losses: tuple[Verdict, ...]
    num_ties: int

    @property
    def name(self) -> str:
        """The folder's."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]


def has_comparison(url: str) -> bool:
    """Whether a folder holds the comparison of two evaluations."""
    return storage.exists(storage.join(url, COMPARISON))


def read_comparison(url: str) -> EvaluationComparison:
    """The comparison in a folder of `evaluate`; raises `UserError` where it is damaged."""
    try:
        found = json.loads(storage.read_bytes(storage.join(url, COMPARISON)))
        lines = storage.read_bytes(storage.join(url, ANSWERS)).decode().splitlines()
        entries = {str(entry["question_id"]): entry for entry in map(json.loads, lines)}
        metrics = tuple(
            MetricDifference(
                str(name),
                float(each["value"]),
                float(each["against"]),
                float(each["difference"]),
                (float(each["interval"][0]), float(each["interval"][1]))
                if each["interval"]
                else None,
            )
            for name, each in found["metrics"].items()
        )
        wins, losses = (
            tuple(_verdict(each, entries) for each in found[name]) for name in ("wins", "losses")
        )
        return EvaluationComparison(
            url,
            str(found["against"]),
            str(found["by"]),
            metrics,
            wins,
            losses,
            int(found["num_ties"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"the comparison in {url} is damaged ({type(error).__name__}: {one_line(error)[:200]}):"
            " run `pad-pipeline evaluate score --against` again"
        ) from error


def _verdict(each: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> Verdict:
    entry = entries[str(each["question_id"])]
    references = entry.get("references") or []
    image = entry.get("image")
    return Verdict(
        str(each["question_id"]),
        str(each["answer"]),
        float(each["score"]),
        str(each["answer_against"]),
        float(each["score_against"]),
        str(entry.get("prompt") or ""),
        tuple(map(str, references if isinstance(references, list) else [references])),
        image if isinstance(image, str) else None,
    )
