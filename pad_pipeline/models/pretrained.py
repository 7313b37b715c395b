"""Strict loading of transformers models from a hub id or a directory in transformers' layout."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PretrainedConfig
from transformers.utils import logging

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import list_keys


def read_config(reference: str | Path) -> dict[str, Any]:
    """The contents of config.json of a directory or a hub id.

    Raises `UserError` where there is none, or where the hub cannot be reached.
    """
    if Path(reference).is_dir() and not (Path(reference) / "config.json").is_file():
        raise UserError(
            f"{reference} holds no config.json; expected a converted model (see "
            "`pad-pipeline models convert`) or a directory in transformers' layout"
        )
    try:
        config, _ = PretrainedConfig.get_config_dict(str(reference))
    except (OSError, ValueError) as error:
        raise unreachable(reference, error) from error
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and warnings; what matters of them is raised as an error here."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # Advice on the width of attention heads for a CUDA kernel that is not used here.
            warnings.filterwarnings("ignore", message="You'd better set embed_dim")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_pretrained(
    model_class: Any, reference: str | Path, *, computed: str = "", **options: Any
) -> Any:
    """A transformers model in float32 and evaluation mode; every weight must be there and fit.

    `computed` matches (whole names, a regular expression) the keys that may be missing or left
    over. `options` go to `from_pretrained`. Raises `UserError` with the first keys that are
    missing, unexpected or of another shape.
    """
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                str(reference),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, instead of raised without names
                dtype="float32",
                **options,
            )
    except (
        *(OSError, ValueError, RuntimeError),
        *(SafetensorError, pickle.UnpicklingError),
    ) as error:
        raise unreachable(reference, error) from error
    differing = list_keys(
        {
            "missing": _needed(report["missing_keys"], computed),
            "unexpected": _needed(report["unexpected_keys"], computed),
            "of another shape": [str(entry[0]) for entry in report["mismatched_keys"]],
            "unreadable": [str(message) for message in report.get("error_msgs", ())],
        }
    )
    if differing:
        raise UserError(f"{reference} does not fit {model_class.__name__}: {differing}")
    return model.eval()


def _needed(keys: Iterable[str], computed: str) -> list[str]:
    return [str(key) for key in keys if not re.fullmatch(computed, str(key))]


def unreachable(reference: str | Path, error: Exception) -> UserError:
    """What to tell the user where transformers could not read `reference`."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return UserError(
        f"no model could be read from {reference}: {reason}; give a converted directory, a "
        "checkpoint file or a hub id, and where there is no network, download the model first"
    )
