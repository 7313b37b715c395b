"""An experiment's report: one HTML file with tables and plots, which a person can send."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from pad_pipeline import __version__, storage
from pad_pipeline.evaluate.figure_style import png
from pad_pipeline.reproduce.experiment_figures import bars_figure, pursuit_figure
from pad_pipeline.reproduce.miniature import PAPER

_TITLES = {
    "beta": "The weight β of the patch loss",
    "patch-only": "The patch loss alone",
    "projectors": "Linear, MLP and C-Abstractor",
    "llms": "Two language models with tokenizers of different kinds",
    "pursuit": "Does matching pursuit name what a patch shows?",
}
_MEASURES = {
    "align": "Align(V, W)",
    "cosine": "cosine",
    "delta_h": "ΔH",
    "caption_loss": "caption loss",
    "METEOR": "METEOR",
    "ROUGE_L": "ROUGE-L",
    "CIDEr": "CIDEr",
    "without_word": "patches without a word",
}
_PAPERS = {"captions alone": "caption", "patch-aligned": "patch_aligned", "random": "random"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2128; max-width: 76rem; margin: 2.5rem auto;
  padding: 0 1.5rem; }
p, li { max-width: 60rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.what { color: #5a6472; margin-top: 0; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: right; border-bottom: 1px solid #e3e6ea; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
small { color: #5a6472; display: block; white-space: nowrap; font-size: .8em; }
img { max-width: 100%; } li { margin: .2rem 0; }
"""


def write_report(results: Mapping[str, Any], path: Path) -> None:
    """Write report.html: what was run, the measures over the seeds, the paper's beside, plots."""
    title = _TITLES[results["experiment"]]
    parts = [
        f"<h1>{escape(title)}</h1><p class=what>{escape(_what(results))}</p>",
        "<h2>Measures</h2>" + _measures(results),
        _paper(results),
        _picture(bars_figure(results["arms"], _MEASURES), "The measures as bars"),
        "<h2>Matching pursuit</h2><p>Of the words picked for a patch under a mask: precision is "
        "the share that belongs to a label of the patch, recall the share of its labels that are "
        "named.</p>",
        _picture(pursuit_figure(results["arms"]), "Precision and recall over the iterations"),
        "<h2>Failure signatures</h2>" + _signatures(results),
        f"<p class=what>pad-pipeline {escape(__version__)}</p>",
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )
    storage.write_atomic(str(path), page.encode())


def _what(results: Mapping[str, Any]) -> str:
    """What was measured on what."""
    if "run" in results:
        return (
            f"The run {results['run']} beside a random projector, on {results['num_images']:,} "
            f"images of {results['annotations']}; seen in training: "
            f"{results['seen_in_training']}. The labels of a patch are the tags of the masks that "
            "cover it by half: what they do not name counts as wrong."
        )
    seeds = len(results["seeds"])
    return (
        f"Small models on drawn scenes: {results['num_scenes']:,} for training in "
        f"{results['num_steps']:,} steps, {results['num_held_out']:,} held out, on which all is "
        f"measured; {seeds} seed{'s' if seeds > 1 else ''}, the same order of samples for every "
        "row. Such figures say nothing of photographs or of models of billions of parameters."
    )


def _measures(results: Mapping[str, Any]) -> str:
    arms = results["arms"]
    shown = [name for name in _MEASURES if all(name in values for values in arms.values())]
    head = "".join(f"<th>{escape(_MEASURES[name])}</th>" for name in shown)
    rows = []
    for arm, values in arms.items():
        cells = "".join(_cell(values[name]) for name in shown)
        rows.append(f"<tr><td>{escape(arm)}</td>{cells}</tr>")
    scored = "METEOR" in shown or "run" in results
    note = "" if scored else "<p>Captions are not scored: there was no Java runtime.</p>"
    spread = "Means over the seeds; below them the least and the most."
    said = f"<p class=what>{spread}</p>" if len(results["seeds"]) > 1 else ""
    return (
        f"<div class=wide><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>{said}{note}"
    )


def _cell(found: Mapping[str, Any]) -> str:
    low, high = min(found["values"]), max(found["values"])
    spread = f"<small>{low:.3f} – {high:.3f}</small>" if len(found["values"]) > 1 else ""
    return f"<td>{found['mean']:.3f}{spread}</td>"


def _paper(results: Mapping[str, Any]) -> str:
    """The paper's values for the rows that it has, beside ours."""
    rows = []
    for arm, values in results["arms"].items():
        kind, comma, regime = arm.partition(", ")
        name = _PAPERS.get(regime if comma else arm)
        reported = PAPER.get(kind if comma else "mlp", {}).get(name or "", {})
        for measure, paper in reported.items():
            ours = values[measure]["mean"]
            rows.append(
                f"<tr><td>{escape(arm)}</td><td>{escape(_MEASURES[measure])}</td>"
                f"<td>{paper:.3f}</td><td>{ours:.3f}</td></tr>"
            )
    if not rows or "run" in results:
        return ""
    return (
        "<h2>Beside the paper</h2><div class=wide><table><tr><th></th><th>measure</th>"
        f"<th>arXiv 2505.17316</th><th>here</th></tr>{''.join(rows)}</table></div>"
        "<p class=what>The paper's are of CLIP ViT-L/14-336 and Vicuna-7B on 100 images of COCO; "
        "only the order of the rows can be compared.</p>"
    )


def _signatures(results: Mapping[str, Any]) -> str:
    if not results["signatures"]:
        return "<p>None of them shows.</p>"
    return (
        "<ul>"
        + "".join(
            f"<li>{escape(arm)}: {escape('; '.join(names))}</li>"
            for arm, names in results["signatures"].items()
        )
        + "</ul>"
    )


def _picture(figure: Any, text: str) -> str:
    data = base64.b64encode(png(figure)).decode()
    return f"<img alt='{escape(text)}' src='data:image/png;base64,{data}'>"
