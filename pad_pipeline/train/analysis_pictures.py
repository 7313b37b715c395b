"""Pictures of single images: Align masks beside the true ones, tokenmaps of matching pursuit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from pad_pipeline.analysis.alignment import AlignmentMeter, Threshold
from pad_pipeline.analysis.plots import align_figure
from pad_pipeline.analysis.pursuit import matching_pursuit
from pad_pipeline.analysis.tokenmap import tokenmap_figure
from pad_pipeline.train.data import Example, Loader
from pad_pipeline.train.model import VisionLanguageModel
from pad_pipeline.train.patch_loss import COVERED

_UNSAFE = re.compile(r"[^\w.-]+")
_DPI = 110


@torch.no_grad()
def draw_pictures(
    model: VisionLanguageModel,
    loader: Loader,
    example: Example,
    folder: Path,
    *,
    threshold: Threshold,
    num_iterations: int,
    dictionary: set[str],
) -> list[str]:
    """Write `<image>-align.png` (paper, Fig. 4) and `<image>-tokenmap.png` (Figs. 5 and 6).

    `dictionary` are the words that a tokenmap shows in colour. Returns the files' names.
    """
    assert example.frame is not None
    batch = loader.collate([example]).to(model.device)
    tokens_PD = model.project(model.encode(batch.pixels_ICHW))[0].float()
    labels = model.label_embeddings(batch.label_ids or [[0]]).float()
    covered_RP = model.projector.token_coverage(batch.coverage_IRS)[0] >= COVERED
    grid = model.projector.token_grid
    stem = _UNSAFE.sub("_", example.id)
    names = []
    if covered_RP.any():
        found = AlignmentMeter(threshold).add(
            tokens_PD, labels[batch.label_index_IR[0]], covered_RP
        )
        rule = found.by_threshold[threshold]
        regions = [
            (example.tags[int(region)], covered_RP[region].cpu(), predicted.cpu(), float(iou))
            for region, predicted, iou in zip(
                found.kept_R, rule.predicted_RP, rule.iou_R, strict=True
            )
        ]
        figure = align_figure(example.frame, grid, regions, title=example.id)
        names.append(_save(figure, folder / f"{stem}-align.png"))
    pursuit = matching_pursuit(tokens_PD, model.embedding, num_iterations=num_iterations)
    words = [loader.tokenizer.convert_ids_to_tokens(row) for row in pursuit.indices_NK.T.tolist()]
    figure = tokenmap_figure(
        example.frame,
        grid,
        words,
        pursuit.similarities_NK.T.cpu().numpy(),
        dictionary,
        title=example.id,
    )
    names.append(_save(figure, folder / f"{stem}-tokenmap.png"))
    return names


def words_of(tokenizer: Any, tags: set[str]) -> set[str]:
    """The words of the tags that are a piece of the vocabulary by themselves."""
    words = {word for tag in tags for word in tag.lower().split()}
    pieces = {str(piece).lstrip("▁Ġ").lower() for piece in tokenizer.get_vocab()}
    return words & pieces


def _save(figure: Figure, path: Path) -> str:
    figure.savefig(path, dpi=_DPI)
    return path.name
