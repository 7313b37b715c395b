"""The model from hub ids and directories, checked as a whole before a weight is read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import check_device, list_keys
from pad_pipeline.models.pretrained import quiet, read_config, unreachable
from pad_pipeline.train.model.projector_files import load_projector
from pad_pipeline.train.model.projectors import Projector
from pad_pipeline.train.model.towers import (
    NOT_OF_THE_TOWER,
    TOWERS,
    check_select_layer,
    tower_of,
    vision_config_of,
)
from pad_pipeline.train.model.vlm import VisionLanguageModel

_TOWER_CLASSES = tuple(tower.model_class for tower in TOWERS.values())

_COMPUTED = (".position_ids", ".rotary_emb.inv_freq")
"""Buffers that old checkpoints hold and that the models compute for themselves."""


def load_model(
    vision: str | Path,
    llm: str | Path,
    projector: str | Path | Projector = "mlp",
    *,
    dtype: torch.dtype | None = None,
    llm_dtype: torch.dtype | None = None,
    device: str = "cpu",
    num_tokens: int = 256,
    hidden_width: int | None = None,
    attention: str = "sdpa",
    select_layer: int = -2,
    quantization: Any = None,
    image_newline: bool = False,
) -> VisionLanguageModel:
    """Tower, projector and language model, frozen but for the projector.

    `vision` (of a family in `TOWERS`; its layer `select_layer` gives the patches) and `llm` are hub
    ids or directories in transformers' layout. `projector` is a kind ("linear", "mlp",
    "c-abstractor", "perceiver": random weights from torch's generator; `num_tokens` and
    `hidden_width` as for `build_projector`), a directory that `save_projector` or an export wrote,
    a file (mm_projector.bin, *.safetensors), or a projector. `dtype` is that of the passes and of
    frozen weights: bfloat16 on a GPU, float32 elsewhere unless given; `llm_dtype` that of the
    language model's weights where it shall differ (float32 where it will be trained). On the
    device "meta" no weight is read: sizes only.

    `quantization` is transformers' way of keeping the language model's weights in fewer bits;
    `image_newline` gives a projector that has none a newline, for images in tiles.

    Raises `UserError` where something is missing, cannot be read or does not fit the rest.
    """
    check_device(device)
    if dtype is None:
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    vision_config = read_vision_config(vision)
    llm_config = read_llm_config(llm)
    if not isinstance(projector, Projector):
        projector = load_projector(
            projector,
            vision_config=vision_config,
            llm_width=int(llm_config.hidden_size),
            num_tokens=num_tokens,
            hidden_width=hidden_width,
        )
    if image_newline:
        projector.add_newline()
    check_select_layer(vision_config, select_layer)
    tower_class = tower_of(vision_config).model_class
    with torch.device("meta"):  # everything is checked before a weight is read
        skeleton = VisionLanguageModel(
            tower_class(vision_config),
            projector,
            AutoModelForCausalLM.from_config(llm_config),
            compute_dtype=dtype,
            select_layer=select_layer,
        )
    if torch.device(device).type == "meta":
        projector.to("meta")
        return skeleton
    del skeleton
    tower = _load(tower_class, vision, dtype, attention, config=vision_config)
    options: dict[str, Any] = {}
    if quantization is not None:
        options = {"quantization_config": quantization, "device_map": {"": device}}
    words = _load(AutoModelForCausalLM, llm, llm_dtype or dtype, attention, **options)
    model = VisionLanguageModel(
        tower, projector, words, compute_dtype=dtype, select_layer=select_layer
    )
    return model.to(device)


def read_vision_config(reference: str | Path) -> Any:
    """The settings of a vision tower, also of one inside a whole CLIP or SigLIP.

    Raises `UserError` where there is none.
    """
    _check_there(reference, "vision tower")
    return vision_config_of(read_config(reference), reference)


def read_llm_config(reference: str | Path) -> Any:
    """The settings of a causal language model; `UserError` where there is none."""
    _check_there(reference, "language model")
    read_config(reference)
    try:
        config = AutoConfig.from_pretrained(str(reference), trust_remote_code=False)
        AutoModelForCausalLM._model_mapping[type(config)]
    except (OSError, ValueError) as error:
        raise unreachable(reference, error) from error
    except KeyError as error:
        raise UserError(
            f"{reference} is no causal language model; give a Llama, Vicuna, Mistral or the like"
        ) from error
    return config


def _check_there(reference: str | Path, what: str) -> None:
    """A path that is not there would be taken for a hub id."""
    path = Path(reference).expanduser()
    looks_local = (
        str(reference).startswith((".", "~")) or path.is_absolute() or (len(path.parts) > 2)
    )
    if path.is_file() or (looks_local and not path.is_dir()):
        raise UserError(
            f"the {what} {reference} is not a directory; give a directory in transformers' layout "
            "or a hub id"
        )


def _load(
    model_class: Any, reference: str | Path, dtype: torch.dtype, attention: str, **options: Any
) -> Any:
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                str(reference),
                dtype=dtype,
                attn_implementation=attention,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below with names
                **options,
            )
    except (
        *(OSError, ValueError, RuntimeError, ImportError),
        *(SafetensorError, pickle.UnpicklingError),
    ) as error:
        raise unreachable(reference, error) from error
    unexpected = [
        name
        for name in map(str, report["unexpected_keys"])
        if not name.endswith(_COMPUTED)
        and not (model_class in _TOWER_CLASSES and name.startswith(NOT_OF_THE_TOWER))
    ]
    differing = list_keys(
        {
            "missing": map(str, report["missing_keys"]),
            "unexpected": unexpected,
            "of another shape": [str(entry[0]) for entry in report["mismatched_keys"]],
            "unreadable": map(str, report.get("error_msgs", ())),
        }
    )
    if differing:
        raise UserError(f"{reference} does not fit {type(model).__name__}: {differing}")
    return model
