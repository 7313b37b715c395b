"""Denoisers read from pipeline directories in diffusers' layout, every weight there and fitting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import list_keys
from pad_pipeline.models.references import resolve
from pad_pipeline.train.vlsa.denoiser import Denoiser

_CLASSES = {
    "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),
    "vae": ("AutoencoderKL",),
    "scheduler": (),
}
"""The parts of a pipeline, and the classes that may have saved their weights; `Transformer2DModel`
is the one of diffusers before 0.28, with the same weights."""

_WRONG = {
    "missing_keys": "missing",
    "unexpected_keys": "unexpected",
    "mismatched_keys": "of another shape",
}


def load_denoiser(
    reference: str | Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Denoiser:
    """The denoiser of a pipeline directory or a hub id; on "meta" sizes without weights.

    The directory has `transformer`, `vae` and `scheduler`, each with its config and the first two
    with weights, as diffusers' `save_pretrained` writes them (safetensors or .bin, whole or in
    shards). Raises `UserError` where a part is missing, cannot be read or does not fit.
    """
    try:
        from diffusers import AutoencoderKL, DDPMScheduler, PixArtTransformer2DModel
    except ImportError as error:
        raise UserError(
            f"a denoiser needs diffusers ({error}): pip install 'pad-pipeline[train]'"
        ) from error
    place = resolve(reference)
    if isinstance(place, Path) and not place.is_dir():
        raise UserError(
            f"{place} is a file; expected the directory of a PixArt pipeline in diffusers' layout, "
            "with transformer, vae and scheduler"
        )
    parts: dict[str, Any] = {
        "transformer": PixArtTransformer2DModel,
        "vae": AutoencoderKL,
        "scheduler": DDPMScheduler,
    }
    loaded: dict[str, Any] = {}
    with _quiet():
        for part, model_class in parts.items():
            try:
                loaded[part] = _read(model_class, place, part, dtype, device)
            except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
                raise UserError(
                    f"the {part} of the denoiser {reference} cannot be read: {reason}; give the "
                    "directory of a PixArt pipeline in diffusers' layout, or a hub id, whose model "
                    "must be downloaded first where there is no network"
                ) from error
    return Denoiser(loaded["transformer"], loaded["vae"], loaded["scheduler"]).to(device)


def _read(model_class: Any, place: str | Path, part: str, dtype: torch.dtype, device: str) -> Any:
    config = model_class.load_config(str(place), subfolder=part)
    saved_as, allowed = config.get("_class_name"), _CLASSES[part]
    if allowed and saved_as not in allowed:
        raise ValueError(f"it is a {saved_as}, and a {allowed[0]} was expected")
    if part == "scheduler":
        if "beta_schedule" not in config:
            raise ValueError(f"{saved_as} has no beta_schedule, from which noise is made here")
        return model_class.from_config(config)
    if device == "meta":
        with torch.device("meta"):
            return model_class.from_config(config)
    has_safetensors = isinstance(place, Path) and any((place / part).glob("*.safetensors*"))
    model, report = model_class.from_pretrained(
        str(place),
        subfolder=part,
        torch_dtype=dtype,
        output_loading_info=True,
        use_safetensors=has_safetensors if isinstance(place, Path) else None,
        low_cpu_mem_usage=False,  # else what has another shape is no part of the report
        ignore_mismatched_sizes=True,
    )
    differing = list_keys(
        {
            what: [str(key[0] if isinstance(key, tuple) else key) for key in report[name]]
            for name, what in _WRONG.items()
        }
    )
    if differing:
        raise ValueError(f"its weights do not fit: {differing}")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' bars and warnings; what matters of them is raised as an error here."""
    from diffusers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
