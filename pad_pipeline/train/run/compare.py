"""Two training runs side by side: what differs in their configs, their curves, held-out figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.train.run.folder import Run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics

CURVES = {
    "caption_loss": "caption loss",
    "patch_loss": "patch loss",
    "cosine": "cosine",
    "gradient_norm": "gradient norm",
    "tokens_per_s": "tokens/s",
}
HELD_OUT = {
    "validation/caption_loss": "caption loss",
    "validation/patch_loss": "patch loss",
    "validation/cosine": "cosine",
    "validation/align": "Align",
}
_POINTS = 40
_BARS = "▁▂▃▄▅▆▇█"
_TAIL = 0.1
"""The part of the common steps over which the end of a curve is averaged."""


def compare_runs(first: str, second: str) -> list[str]:
    """Two runs side by side, in lines.

    Curves are compared over the steps that both have taken, and their ends are means over the last
    tenth of these; held-out figures at the last step at which both were measured. Raises
    `UserError` where one is no run, has taken no step, or the two are of different stages.
    """
    runs = [read_run(url) for url in (first, second)]
    stages = [run.facts["stage"] for run in runs]
    if stages[0] != stages[1]:
        raise UserError(
            f"{first} is a run of {stages[0]} and {second} one of {stages[1]}; their figures do "
            "not compare, so give two runs of one stage"
        )
    metrics = [read_metrics(run.url) for run in runs]
    for run, lines in zip(runs, metrics, strict=True):
        if not lines:
            raise UserError(f"{run.url} has taken no step yet; compare it later")
    common = min(len(lines) for lines in metrics)
    cut = [lines[:common] for lines in metrics]
    return [
        f"A  {_describe(runs[0], metrics[0])}",
        f"B  {_describe(runs[1], metrics[1])}",
        *_differences(*runs),
        "",
        f"curves over the first {common:,} steps, with the mean of the last tenth",
        *_curves(*cut),
        *_held_out(*metrics),
    ]


def _describe(run: Run, lines: Sequence[dict[str, Any]]) -> str:
    state = "finished" if run.finished else "not finished"
    return f"{run.url} ({run.facts['stage']}, {state}, {len(lines):,} steps)"


def _differences(first: Run, second: Run) -> list[str]:
    """The settings and sources that differ."""
    keys = ("source", "images", "projector", "num_samples", "source_digest")
    a, b = (
        {**run.facts["config"], **{key: run.facts.get(key) for key in keys}}
        for run in (first, second)
    )
    lines = [
        f"  {name}: A {a.get(name)}, B {b.get(name)}"
        for name in {**a, **b}
        if a.get(name) != b.get(name) and name != "source_digest"
    ]
    if a["source_digest"] != b["source_digest"]:
        lines.append("  the samples differ: other data, not the settings, may explain a difference")
    return ["settings that differ", *lines] if lines else ["all settings and samples are the same"]


def _curves(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[str]:
    lines = []
    for name, label in CURVES.items():
        pair = [[line.get(name) for line in each] for each in (a, b)]
        known = [value for each in pair for value in each if value is not None]
        if not known or not any(known):
            continue
        low, high = min(known), max(known)
        ends = [_end(each) for each in pair]
        for letter, values, end in zip("AB", pair, ends, strict=True):
            title = label if letter == "A" else ""
            lines.append(f"{title:14} {letter} {_spark(values, low, high)} {_number(end)}")
        lines[-1] += _change(*ends)
    return lines


def _held_out(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[str]:
    """The figures at the last step at which both were measured."""
    measured = [
        {line["step"]: line for line in lines if "validation/caption_loss" in line}
        for lines in (a, b)
    ]
    steps = measured[0].keys() & measured[1].keys()
    if not steps:
        return ["", "held-out samples: no step at which both were measured"]
    step = max(steps)
    rows = [f"{'':14} {'A':>10} {'B':>10} {'B - A':>10}"]
    for name, label in HELD_OUT.items():
        first, second = (each[step].get(name) for each in measured)
        if first is not None and second is not None:
            rows.append(f"{label:14} {first:10.4f} {second:10.4f} {second - first:+10.4f}")
    return ["", f"held-out samples after step {step + 1:,}", *rows]


def _end(values: Sequence[float | None]) -> float | None:
    last = values[-max(1, round(len(values) * _TAIL)) :]
    known = [value for value in last if value is not None]
    return sum(known) / len(known) if known else None


def _change(a: float | None, b: float | None) -> str:
    return "" if a is None or b is None else f"  (B - A {_number(b - a, '+')})"


def _number(value: float | None, sign: str = "") -> str:
    """Four decimals, and none from 1,000 on."""
    if value is None:
        return "no number"
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.4f}"


def _spark(values: Sequence[float | None], low: float, high: float) -> str:
    """A curve in `_POINTS` characters at most, both of a pair on one scale; a gap is a space."""
    size = min(_POINTS, len(values))
    text = ""
    for place in range(size):
        part = values[place * len(values) // size : (place + 1) * len(values) // size]
        known = [value for value in part if value is not None]
        if not known:
            text += " "
            continue
        height = (sum(known) / len(known) - low) / ((high - low) or 1)
        text += _BARS[round(height * (len(_BARS) - 1))]
    return text.ljust(_POINTS)
