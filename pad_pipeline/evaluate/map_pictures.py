"""Pictures of single images: Align masks beside the true ones, tokenmaps of matching pursuit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pad_pipeline.evaluate.align_figure import align_figure
from pad_pipeline.evaluate.english_words import english_words
from pad_pipeline.evaluate.maps import ImageMaps
from pad_pipeline.evaluate.tokenmaps import tokenmap_figure

_UNSAFE = re.compile(r"[^\w.-]+")
_DPI = 110
_LONGEST_STEM = 150


def file_stems(image_ids: Sequence[str]) -> list[str]:
    """A name for each image that files can have, no two the same: "a/b" and "a_b" differ."""
    stems: list[str] = []
    for image_id in image_ids:
        stem = wanted = _UNSAFE.sub("_", image_id)[-_LONGEST_STEM:]
        number = 2
        while stem in stems:
            stem, number = f"{wanted}-{number}", number + 1
        stems.append(stem)
    return stems


def draw_pictures(maps: ImageMaps, folder: Path, stem: str) -> list[str]:
    """Write `<stem>-align.png` (paper, Fig. 4) and `<stem>-tokenmap.png` (Figs. 5 and 6).

    Returns the files' names.
    """
    names = []
    if maps.regions:
        regions = [(r.tag, r.covered_P, r.predicted_P, r.iou) for r in maps.regions]
        figure = align_figure(maps.frame, maps.grid, regions, title=maps.image_id)
        names.append(_save(figure, folder / f"{stem}-align.png"))
    figure = tokenmap_figure(
        maps.frame,
        maps.grid,
        maps.words,
        maps.cosines_KP,
        english_words(),
        title=maps.image_id,
    )
    names.append(_save(figure, folder / f"{stem}-tokenmap.png"))
    return names


def _save(figure: Figure, path: Path) -> str:
    figure.savefig(path, dpi=_DPI)
    return path.name
