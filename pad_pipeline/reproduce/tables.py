"""Tables 4, 5 and 8 in miniature: what the patch loss changes in captions and in answers.

Both arms are asked the same on every seed. Figures are means over the seeds; a 95 % interval draws
the held-out questions again, each with its answers of all seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.choices import Kind
from pad_pipeline.evaluate.kinds import score
from pad_pipeline.evaluate.scoring import bootstrap
from pad_pipeline.scenes.questions import TOPICS

ARMS = ("caption", "patch_aligned")
"""The baseline, and what is compared with it."""

CAPTION_METRICS = ("METEOR", "ROUGE_L", "CIDEr")
_ACCURACY, _MEAN_IOU = "Acc@0.5/padding_undone", "mIoU/padding_undone"

Seeds = Sequence[Sequence[Answer]]
"""The answers of each seed, to the same questions in the same order."""
Row = dict[str, dict[str, Any]]
"""Metric -> `caption` and `patch_aligned` (`mean`, `values` of the seeds, `interval`) and
`difference` (`mean`, `interval`)."""


def caption_row(captions: Mapping[str, Seeds]) -> Row:
    """METEOR, ROUGE-L and CIDEr of both arms' captions."""
    return _compare("captions", {}, captions, {name: name for name in CAPTION_METRICS})


def answer_row(answers: Mapping[str, Seeds]) -> Row:
    """Acc@0.5 and mean IoU of "where is", and the share of right answers of the other topics."""
    others = [topic for topic in TOPICS if topic != "where"]
    rest = {arm: _of_topics(seeds, set(others)) for arm, seeds in answers.items()}
    names = {f"accuracy/{topic}": topic for topic in others}
    return where_row(answers) | _compare("vqa", {"benchmark": "exact"}, rest, names)


def where_row(answers: Mapping[str, Seeds]) -> Row:
    """Acc@0.5 and mean IoU of "where is", in the frame that the boxes were learnt in."""
    where = {arm: _of_topics(seeds, {"where"}) for arm, seeds in answers.items()}
    return _compare("referring", {}, where, {_ACCURACY: "Acc@0.5", _MEAN_IOU: "mIoU"})


def table_lines(tables: Mapping[str, Any]) -> list[str]:
    """The tables as text: a line for each projector and metric."""
    lines = []
    for title, rows in tables.items():
        lines += ["", title]
        if isinstance(rows, str):
            lines.append(f"  not measured: {rows}")
            continue
        head = "".join(f"{name:>27}" for name in ("captions alone", "patch-aligned", "difference"))
        lines.append(f"  {'':26}{head}")
        for kind, row in rows.items():
            for name, found in row.items():
                cells = [found[arm] for arm in ARMS] + [found["difference"]]
                numbers = "".join(f"{_cell(cell):>27}" for cell in cells)
                lines.append(f"  {kind:14}{name:12}{numbers}")
    return lines


def _cell(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _compare(
    kind: Kind, options: Mapping[str, Any], arms: Mapping[str, Seeds], names: Mapping[str, str]
) -> Row:
    num_seeds, num_questions = len(arms[ARMS[0]]), len(arms[ARMS[0]][0])
    number = num_seeds * num_questions
    # First every answer of one seed once and none of the others; then draws of the questions, each
    # with its answers of all seeds.
    of_seed = np.repeat(np.eye(num_seeds, dtype=np.int64), num_questions, axis=1)
    groups = np.tile(np.arange(num_questions), num_seeds)
    draws_RN = np.concatenate([of_seed, *bootstrap.draws(number, groups)])
    pooled = {arm: score(kind, [a for seed in arms[arm] for a in seed], options) for arm in ARMS}
    row: Row = {}
    for metric, name in names.items():
        means = {arm: pooled[arm].metrics[metric].value for arm in ARMS}
        found = {arm: pooled[arm].metrics[metric].resampled(draws_RN) for arm in ARMS}
        baseline, aligned = ARMS
        row[name] = {
            arm: {
                "mean": means[arm],
                "values": found[arm][:num_seeds].tolist(),
                "interval": bootstrap.percentile_interval(found[arm][num_seeds:]),
            }
            for arm in ARMS
        }
        row[name]["difference"] = {
            "mean": means[aligned] - means[baseline],
            "interval": bootstrap.percentile_interval(
                (found[aligned] - found[baseline])[num_seeds:]
            ),
        }
    return row


def _of_topics(seeds: Seeds, topics: set[str]) -> list[list[Answer]]:
    return [[a for a in answers if a.entry["category"] in topics] for answers in seeds]
