"""Reading figures back: their pixels and texts."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pad_pipeline.evaluate.figure_style import png

IMAGE = np.full((48, 64, 3), 200, np.uint8)


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)


def texts(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    found += [text.get_text() for axes in figure.axes for text in axes.texts]
    return "\n".join(found)
