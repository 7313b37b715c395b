"""The kinds of evaluation by name: from answers to their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.choices import Kind
from pad_pipeline.evaluate.scoring.scores import Scores

Options = Mapping[str, Any]
"""The settings of a kind's scoring, as JSON values."""


def score(kind: Kind, answers: Sequence[Answer], options: Options) -> Scores:
    """The scores of the answers; raises `UserError` where they lack what the kind needs."""
    return _SCORERS[kind](answers, options)


def _captions(answers: Sequence[Answer], options: Options) -> Scores:
    from pad_pipeline.evaluate.scoring.captions import score_captions

    candidates, references = [a.text for a in answers], [a.texts() for a in answers]
    return score_captions(candidates, references, spice_home=options.get("spice_home"))


def _referring(answers: Sequence[Answer], options: Options) -> Scores:
    from pad_pipeline.evaluate.scoring.referring import score_referring

    del options
    return score_referring(answers)


def _vqa(answers: Sequence[Answer], options: Options) -> Scores:
    from pad_pipeline.evaluate.scoring.vqa import score_vqa

    return score_vqa(answers, options["benchmark"])


def extra_files(kind: Kind, answers: Sequence[Answer], options: Options) -> dict[str, bytes]:
    """What else an evaluation leaves: names and contents of files."""
    if kind == "vqa" and options["benchmark"] == "mmbench":
        from pad_pipeline.evaluate.scoring.mmbench import submission

        return {"submission.xlsx": submission(answers)}
    return {}


_SCORERS: dict[Kind, Callable[[Sequence[Answer], Options], Scores]] = {
    "captions": _captions,
    "referring": _referring,
    "vqa": _vqa,
}
