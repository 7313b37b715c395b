"""Two evaluations of the same questions: differences with intervals, and who wins where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.scoring import bootstrap
from pad_pipeline.evaluate.scoring.scores import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What this evaluation has more than the other, metric by metric and sample by sample."""

    against: str
    metrics: dict[str, dict[str, Any]]
    main: str
    wins: list[dict[str, Any]]
    losses: list[dict[str, Any]]
    num_ties: int
    samples: str = "questions"
    """What the samples are, in the plural."""

    def to_json(self) -> dict[str, Any]:
        """The content of comparison.json."""
        return {
            "against": self.against,
            "metrics": self.metrics,
            "by": self.main,
            "num_wins": len(self.wins),
            "num_losses": len(self.losses),
            "num_ties": self.num_ties,
            "wins": self.wins,
            "losses": self.losses,
        }

    def lines(self) -> list[str]:
        """The comparison as a table."""
        width = max((len(name) for name in self.metrics), default=0) + 2
        lines = [f"against {self.against}: difference, 95 % interval"]
        for name, found in self.metrics.items():
            interval = found["interval"]
            between = f"   [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else ""
            lines.append(f"{name:{width}}{found['difference']:+10.4f}{between}")
        lines.append(
            f"by {self.main}, better on {len(self.wins):,} {self.samples}, worse on "
            f"{len(self.losses):,}, equal on {self.num_ties:,}"
        )
        return lines


def compare_answers(
    answers: Sequence[Answer],
    scores: Scores,
    other_answers: Sequence[Answer],
    other_scores: Scores,
    against: str,
) -> Comparison:
    """The comparison of two evaluations whose answers are to the same questions, in one order."""
    shown = [
        {
            "question_id": ours.entry["question_id"],
            "answer": ours.text,
            "answer_against": theirs.text,
        }
        for ours, theirs in zip(answers, other_answers, strict=True)
    ]
    return compare(shown, scores, other_scores, against)


def compare(
    shown: Sequence[Mapping[str, Any]],
    scores: Scores,
    other_scores: Scores,
    against: str,
    samples: str = "questions",
) -> Comparison:
    """The comparison of two scores of the same samples in one order.

    `shown` is what wins and losses say of each sample beside its scores, `samples` what they are.
    """
    found = bootstrap.difference_intervals(scores, other_scores, len(shown))
    metrics = {
        name: {
            "value": scores.metrics[name].value,
            "against": other_scores.metrics[name].value,
            "difference": scores.metrics[name].value - other_scores.metrics[name].value,
            "interval": interval,
        }
        for name, interval in found.items()
    }
    ours, theirs = scores.per_sample[scores.main], other_scores.per_sample[scores.main]
    difference_N = np.nan_to_num(ours - theirs)
    listed = [
        {
            **shown[place],
            "score": float(ours[place]),
            "score_against": float(theirs[place]),
        }
        for place in np.argsort(-np.abs(difference_N), kind="stable")
        if difference_N[place]
    ]
    return Comparison(
        against=against,
        metrics=metrics,
        main=scores.main,
        wins=[row for row in listed if row["score"] > row["score_against"]],
        losses=[row for row in listed if row["score"] < row["score_against"]],
        num_ties=int((difference_N == 0).sum()),
        samples=samples,
    )
