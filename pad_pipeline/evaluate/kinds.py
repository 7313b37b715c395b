"""The kinds of evaluation by name: from answers to their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.scoring.scores import Scores

Kind = Literal["captions", "referring", "vqa"]

Options = Mapping[str, Any]
"""The settings of a kind's scoring, as JSON values."""


def score(kind: Kind, answers: Sequence[Answer], options: Options) -> Scores:
    """The scores of the answers; raises `UserError` where they lack what the kind needs."""
    return _SCORERS[kind](answers, options)


def _captions(answers: Sequence[Answer], options: Options) -> Scores:
    from pad_pipeline.evaluate.scoring.captions import score_captions

    candidates, references = [a.text for a in answers], [a.texts() for a in answers]
    return score_captions(candidates, references, spice_home=options.get("spice_home"))


_SCORERS: dict[Kind, Callable[[Sequence[Answer], Options], Scores]] = {
    "captions": _captions,
}
