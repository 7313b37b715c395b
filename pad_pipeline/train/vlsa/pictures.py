"""What the denoiser makes of image tokens, beside the images: one picture of several pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pad_pipeline import storage
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.loader import Loader
from pad_pipeline.train.vlsa.model import VlsaModel

_GAP = 4
PICTURES_FILE = "reconstructions.png"


def write_pictures(
    url: str,
    model: VlsaModel,
    loader: Loader,
    indices: Sequence[int] | NDArray[np.int64],
    number: int,
) -> float | None:
    """Write `number` reconstructions of the samples `indices` into the run's folder at `url`.

    Returns their mean PSNR in dB; None where there is no image among them.
    """
    examples = []
    for index in indices:
        if len(examples) == number:
            break
        example = loader.load(int(index))
        if example.frame is not None:
            examples.append(example)
    if not examples:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PICTURES_FILE)
        psnr = draw_reconstructions(model, loader.collate(examples), path)
        storage.upload(path, storage.join(url, PICTURES_FILE))
    return psnr


@torch.no_grad()
def draw_reconstructions(model: VlsaModel, batch: Batch, path: Path) -> float:
    """Write images above their reconstructions as a PNG; returns the mean PSNR in dB.

    Each pair has the size that the denoiser gives. `batch` must have images.
    """
    batch = batch.to(model.device)
    was_training = model.training
    model.eval()
    made_ICHW = model.reconstruct(batch.pixels_ICHW, batch.image_ids).cpu()
    model.train(was_training)
    images_ICHW = functional.interpolate(
        model.images(batch.pixels_ICHW).float().cpu(),
        made_ICHW.shape[-2:],
        mode="bilinear",
        antialias=True,
        align_corners=False,
    ).clamp(0, 1)
    Image.fromarray(_rows(images_ICHW, made_ICHW)).save(path)
    errors_I = (images_ICHW - made_ICHW).square().flatten(1).mean(1)
    return float((-10 * errors_I.clamp(min=1e-10).log10()).mean())


def _rows(above_ICHW: Tensor, below_ICHW: Tensor) -> NDArray[np.uint8]:
    number, _, height, width = above_ICHW.shape
    sheet = np.full((2 * height + _GAP, number * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for row, images in enumerate((above_ICHW, below_ICHW)):
        for column, image in enumerate(images):
            pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            y, x = row * (height + _GAP), column * (width + _GAP)
            sheet[y : y + height, x : x + width] = pixels
    return sheet
