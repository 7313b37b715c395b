"""What a finished run leaves: its projector, in stage 2 its language model; and exports of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pad_pipeline import storage
from pad_pipeline.models.base import load_strictly
from pad_pipeline.models.pretrained import quiet
from pad_pipeline.train.choices import trains_llm
from pad_pipeline.train.model.projector_files import save_projector
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.folder import Run, read_run
from pad_pipeline.train.run.models import LLM_FOLDER, load_finished_model, vision_input
from pad_pipeline.train.vlsa.load import (
    DENOISER_FOLDER,
    EPIGONE_FILE,
    VISION_FOLDER,
    save_auxiliaries,
    weights_below,
)
from pad_pipeline.train.vlsa.model import VlsaModel


def write_results(
    run: Run,
    model: VisionLanguageModel,
    tokenizer: Any,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write the trained parts into the run's folder.

    `weights` are the model's, whole, where the model itself is sharded.
    """
    projector = model.projector
    llm_weights = None
    if weights is not None:
        projector = build_projector(**projector.settings())
        own = weights_below(weights, "projector.")
        load_strictly(projector, own, source="the sharded model")
        llm_weights = weights_below(weights, "llm.")
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        for path in save_projector(projector, folder):
            storage.upload(path, storage.join(run.url, path.name))
        if trains_llm(run.facts["stage"]):
            if model.has_lora and weights is not None:
                raise AssertionError("low-rank adapters are not sharded")
            llm = model.llm.merge_and_unload() if model.has_lora else model.llm
            llm.save_pretrained(folder / LLM_FOLDER, state_dict=llm_weights)
            tokenizer.save_pretrained(folder / LLM_FOLDER)
            _upload(folder, LLM_FOLDER, run.url)
        if isinstance(model, VlsaModel):
            save_auxiliaries(model, folder, weights)
            for name in (EPIGONE_FILE, VISION_FOLDER, DENOISER_FOLDER):
                _upload(folder, name, run.url)


def _upload(folder: Path, name: str, url: str) -> None:
    """Store a file, or all files below a folder, under the same names."""
    place = folder / name
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if path.is_file():
            storage.upload(path, storage.join(url, *path.relative_to(folder).parts))


def export_run(
    url: str,
    dest: str,
    format: Literal["transformers", "llava"],
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> list[str]:
    """Write a finished run for other programs into the local folder `dest`; returns lines
    that list what was written.

    Raises `UserError` where the run has not finished or `dest` is in use.
    """
    from pad_pipeline.train.model.export import export_run_model

    run = read_run(url)
    model, tokenizer, config = load_finished_model(run, device="cpu")
    image = vision_input(model, config.vision)
    return export_run_model(
        model,
        tokenizer,
        dest,
        format=format,
        geometry=config.geometry,
        template=config.template,
        image_mean=image.mean,
        image_std=image.std,
        dtype=getattr(torch, dtype),
        vision_name=config.vision,
        llm_trained=trains_llm(run.facts["stage"]),
        tile_grids=config.tile_grids,
    )
