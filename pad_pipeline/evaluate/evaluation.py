"""An evaluation's folder: answers are kept apart from scores, so that scoring can be repeated.

DIR/evaluation.json     what was asked of which model, and how it is scored
DIR/predictions.jsonl   the answers as given, one a line
DIR/answers.jsonl       the same with the score of each
DIR/summary.json        the figures with their intervals
DIR/comparison.json     against another evaluation of the same questions
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pad_pipeline import __version__, storage
from pad_pipeline.errors import UserError, plural
from pad_pipeline.evaluate import kinds
from pad_pipeline.evaluate.answers import Answer, check_same_questions, read_answers
from pad_pipeline.evaluate.choices import Kind
from pad_pipeline.evaluate.comparison import Comparison, compare_answers
from pad_pipeline.evaluate.scoring import bootstrap
from pad_pipeline.evaluate.scoring.scores import Scores

EVALUATION, PREDICTIONS, ANSWERS = "evaluation.json", "predictions.jsonl", "answers.jsonl"
SUMMARY, COMPARISON = "summary.json", "comparison.json"

_NUM_UNREAD_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation is: its folder, its kind, how it is scored, and where its answers are
    from."""

    url: str
    kind: Kind
    options: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return {
            "format": "pad-evaluation",
            "version": __version__,
            "kind": self.kind,
            "options": dict(self.options),
            "provenance": dict(self.provenance),
        }


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """An evaluation's figures."""

    summary: Mapping[str, Any]
    url: str
    comparison: Comparison | None = None

    def lines(self) -> list[str]:
        """The report as a table."""
        width = max((len(name) for name in self.summary["metrics"]), default=0) + 2
        lines = [plural(self.summary["num_samples"], "answer")]
        for name, value in self.summary["metrics"].items():
            interval = self.summary["intervals"][name]
            shown = "-" if value is None else f"{value:.4f}"
            between = f"   [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
            lines.append(f"{name:{width}}{shown:>10}{between}")
        for name, reason in self.summary["not_measured"].items():
            lines.append(f"{name:{width}}{reason}")
        if unread := self.summary["num_unread"]:
            lines.append(
                f"{plural(unread, 'answer')} cannot be read by the benchmark's rule and count "
                f"as wrong, such as {', '.join(repr(text[:60]) for text in self.summary['unread'])}"
            )
        if self.comparison is not None:
            lines += ["", *self.comparison.lines()]
        lines.append(f"wrote {storage.join(self.url, SUMMARY)}")
        return lines


def score_answers(
    answers_file: str,
    output: str,
    kind: Kind,
    options: Mapping[str, Any],
    *,
    against: str | None = None,
) -> EvaluationReport:
    """Score answers that exist already, and write the evaluation's folder at `output`.

    Raises `UserError` where `output` holds what a model answered, which would be lost.
    """
    source = storage.absolute(answers_file)
    evaluation = Evaluation(storage.absolute(output), kind, options, {"answers": source})
    answers = read_answers(source)
    if storage.exists(storage.join(evaluation.url, EVALUATION)):
        there = open_evaluation(evaluation.url).provenance
        if "model" in there:
            raise UserError(
                f"{evaluation.url} holds the answers of {there['model']}; use another output, or "
                "`evaluate score` to score these again"
            )
    begin(evaluation)
    write_lines(storage.join(evaluation.url, PREDICTIONS), [dict(a.entry) for a in answers])
    return finish(evaluation, answers, against)


def score_again(url: str, *, against: str | None = None) -> EvaluationReport:
    """Repeat the scoring of an evaluation from its answers, without a model."""
    evaluation = open_evaluation(storage.absolute(url))
    return finish(evaluation, read_predictions(evaluation), against)


def begin(evaluation: Evaluation) -> None:
    """Make the folder and write what the evaluation is."""
    storage.check_writable(evaluation.url)
    storage.write_json(storage.join(evaluation.url, EVALUATION), evaluation.to_json())


def open_evaluation(url: str) -> Evaluation:
    """The evaluation at `url`; `UserError` where there is none."""
    place = storage.join(url, EVALUATION)
    if not storage.exists(place):
        raise UserError(f"{url} is not an evaluation: it has no {EVALUATION}")
    try:
        values = json.loads(storage.read_bytes(place))
        return Evaluation(url, values["kind"], values["options"], values["provenance"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place} cannot be read ({error}); evaluate again") from error


def finish(
    evaluation: Evaluation, answers: Sequence[Answer], against: str | None
) -> EvaluationReport:
    """Score the answers, write scores and summary, compare with the evaluation at `against`."""
    other = None if against is None else open_evaluation(storage.absolute(against))
    theirs = None if other is None else read_predictions(other)
    if other is not None and theirs is not None:
        if other.kind != evaluation.kind:
            raise UserError(
                f"{other.url} is an evaluation of {other.kind} and not of {evaluation.kind}; "
                "compare runs on the same samples"
            )
        check_same_questions(answers, theirs)
    scores = kinds.score(evaluation.kind, answers, evaluation.options)
    summary = _summary(evaluation, answers, scores)
    write_lines(
        storage.join(evaluation.url, ANSWERS),
        [_scored(answer, scores, place) for place, answer in enumerate(answers)],
    )
    for name, data in kinds.extra_files(evaluation.kind, answers, evaluation.options).items():
        storage.write_atomic(storage.join(evaluation.url, name), data)
    storage.write_json(storage.join(evaluation.url, SUMMARY), summary)
    comparison = None
    if other is not None and theirs is not None:
        by_id = {answer.question_id: answer for answer in theirs}
        ordered = [by_id[answer.question_id] for answer in answers]
        their_scores = kinds.score(evaluation.kind, ordered, evaluation.options)
        comparison = compare_answers(answers, scores, ordered, their_scores, other.url)
        storage.write_json(storage.join(evaluation.url, COMPARISON), comparison.to_json())
    return EvaluationReport(summary, evaluation.url, comparison)


def resumable(evaluation: Evaluation) -> bool:
    """Whether the same evaluation was begun at its place already.

    Raises `UserError` where another one was.
    """
    if not storage.exists(storage.join(evaluation.url, EVALUATION)):
        return False
    there = open_evaluation(evaluation.url)
    ours, theirs = evaluation.to_json(), there.to_json()
    for part in ("kind", "options", "provenance"):
        if ours[part] == theirs[part]:
            continue
        if part == "kind":
            what = f"it is of {there.kind}"
        else:
            names = ours[part].keys() | theirs[part].keys()
            name = sorted(n for n in names if ours[part].get(n) != theirs[part].get(n))[0]
            what = f"{name} was {theirs[part].get(name)!r} and is {ours[part].get(name)!r}"
        raise UserError(
            f"{evaluation.url} holds another evaluation ({what}); use the same settings to go on "
            "with it, or another output"
        )
    return True


def read_predictions(evaluation: Evaluation) -> list[Answer]:
    """The answers of an evaluation, as they were given."""
    place = storage.join(evaluation.url, PREDICTIONS)
    if not storage.exists(place):
        raise UserError(f"{evaluation.url} holds no {PREDICTIONS}; evaluate again")
    return read_answers(place)


def _summary(evaluation: Evaluation, answers: Sequence[Answer], scores: Scores) -> dict[str, Any]:
    found = bootstrap.intervals(scores, len(answers))
    return {
        "kind": evaluation.kind,
        **{name: value for name, value in evaluation.options.items() if value is not None},
        "num_samples": len(answers),
        "metrics": {name: _finite(metric.value) for name, metric in scores.metrics.items()},
        "intervals": found,
        "confidence": bootstrap.CONFIDENCE,
        "num_resamplings": bootstrap.NUM_RESAMPLINGS,
        "not_measured": dict(scores.not_measured),
        "num_unread": len(scores.unread),
        "unread": [answers[place].text for place in scores.unread[:_NUM_UNREAD_SHOWN]],
        **evaluation.provenance,
    }


def _scored(answer: Answer, scores: Scores, place: int) -> dict[str, Any]:
    values = {name: _finite(float(score[place])) for name, score in scores.per_sample.items()}
    return {**answer.entry, "score": values[scores.main], "scores": values}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def write_lines(url: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON Lines, whole or not at all."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    storage.write_atomic(url, text.encode())
