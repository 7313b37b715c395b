"""Models for training from hub ids, directories and original LLaVA checkpoints; adapters."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import check_device, list_keys, load_strictly
from pad_pipeline.models.pretrained import quiet, read_config, unreachable
from pad_pipeline.train.model.projectors import (
    Projector,
    ProjectorKind,
    build_projector,
    kind_of,
    llava_state,
    load_llava_state,
    strip_prefix,
)
from pad_pipeline.train.model.vlm import VisionLanguageModel, grid_of

KINDS: tuple[ProjectorKind, ...] = ("linear", "mlp", "c-abstractor")

PROJECTOR_FILES = ("mm_projector.safetensors", "mm_projector.bin")
"""Weights in a projector's directory, in the order of preference."""

SETTINGS_FILE = "projector.json"
"""What `build_projector` takes, beside the weights."""

_NOT_OF_THE_TOWER = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
"""Weights of a whole CLIP that its vision tower does without."""

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
) -> VisionLanguageModel:
    """Tower, projector and language model, frozen but for the projector.

    `vision` and `llm` are hub ids or directories in transformers' layout. `projector` is a kind
    ("linear", "mlp", "c-abstractor": random weights from torch's generator; `num_tokens` and
    `hidden_width` as for `build_projector`), a directory that `save_projector` or an export wrote,
    a file (mm_projector.bin, *.safetensors), or a projector. `dtype` is that of the passes and of
    frozen weights: bfloat16 on a GPU, float32 elsewhere unless given; `llm_dtype` that of the
    language model's weights where it shall differ (float32 where it will be trained). On the
    device "meta" no weight is read: sizes only.

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
    with torch.device("meta"):  # everything is checked before a weight is read
        skeleton = VisionLanguageModel(
            CLIPVisionModel(vision_config),
            projector,
            AutoModelForCausalLM.from_config(llm_config),
            compute_dtype=dtype,
        )
    if torch.device(device).type == "meta":
        projector.to("meta")
        return skeleton
    del skeleton
    tower = _load(CLIPVisionModel, vision, dtype, attention, config=vision_config)
    words = _load(AutoModelForCausalLM, llm, llm_dtype or dtype, attention)
    return VisionLanguageModel(tower, projector, words, compute_dtype=dtype).to(device)


def read_vision_config(reference: str | Path) -> CLIPVisionConfig:
    """The settings of a CLIP vision tower, also of one inside a whole CLIP.

    Raises `UserError` where there is none.
    """
    _check_there(reference, "vision tower")
    values = read_config(reference)
    if values.get("model_type") == "clip":
        values = values.get("vision_config") or {}
        values = {"model_type": "clip_vision_model", **values}
    if values.get("model_type") != "clip_vision_model":
        raise UserError(
            f"{reference} is a {values.get('model_type') or 'model of an unknown type'}; the "
            "vision tower must be a CLIP, for example openai/clip-vit-large-patch14-336"
        )
    return CLIPVisionConfig.from_dict(values)


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


def load_projector(
    reference: str | Path,
    *,
    vision_config: Any,
    llm_width: int,
    num_tokens: int = 256,
    hidden_width: int | None = None,
) -> Projector:
    """A projector of a kind, or the one of a directory or file, for this tower and LLM.

    Raises `UserError` where it is missing, unreadable or of other sizes.
    """
    grid, vision_width = grid_of(vision_config), int(vision_config.hidden_size)
    if reference in KINDS:
        return build_projector(
            cast(ProjectorKind, reference),
            vision_width=vision_width,
            llm_width=llm_width,
            grid=grid,
            num_tokens=num_tokens,
            hidden_width=hidden_width,
        )
    file, settings = _projector_file(Path(reference))
    state = _read_state(file)
    if not settings:
        own = strip_prefix(state)
        readout = own.get("readout.0.weight")
        settings = {
            "kind": kind_of(state, str(file)),
            "num_tokens": num_tokens,
            "hidden_width": readout.shape[1] if readout is not None else hidden_width,
        }
    known = {"kind", "vision_width", "llm_width", "grid", "num_tokens", "hidden_width"}
    try:
        projector = build_projector(
            **{
                "vision_width": vision_width,
                "llm_width": llm_width,
                "grid": grid,
                **{name: value for name, value in settings.items() if name in known},
            }
        )
    except TypeError as error:
        raise UserError(
            f"{file.parent / SETTINGS_FILE} does not describe a projector ({error})"
        ) from error
    load_llava_state(projector, state, source=str(file))
    return projector


def save_projector(projector: Projector, directory: str | Path) -> list[Path]:
    """Write the projector's weights (public names, float32) and settings; the files written.

    The directory must be there.
    """
    weights, settings = Path(directory) / PROJECTOR_FILES[0], Path(directory) / SETTINGS_FILE
    save_file(
        {
            name: tensor.detach().float().contiguous().cpu()
            for name, tensor in llava_state(projector).items()
        },
        weights,
    )
    settings.write_text(json.dumps(projector.settings(), indent=1) + "\n", encoding="utf-8")
    return [weights, settings]


def llava_keys(model: VisionLanguageModel) -> dict[str, str]:
    """Names of an original LLaVA checkpoint -> names in `model.state_dict()`."""
    prefixes = {
        "vision.": "model.vision_tower.vision_tower.vision_model.",
        "projector.network.": next(iter(llava_state(model.projector))).partition(
            next(iter(model.projector.network.state_dict()))
        )[0],
        "llm.": "",
    }
    keys = {}
    for name in model.state_dict():
        prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
        keys[prefixes[prefix] + name.removeprefix(prefix)] = name
    return keys


def load_llava_checkpoint(
    model: VisionLanguageModel, state: Mapping[str, Tensor], *, source: str
) -> None:
    """Copy an original LLaVA checkpoint (`model.mm_projector.*`, `model.vision_tower.*`, Llama's
    names) into `model`; for a model on the meta device the tensors are taken as they are.

    Buffers that old checkpoints hold and models compute are skipped. Raises `UserError` naming
    `source` and the first names that differ.
    """
    keys = llava_keys(model)
    renamed = {
        keys.get(name, name): tensor
        for name, tensor in state.items()
        if not name.endswith(_COMPUTED)
    }
    load_strictly(model, renamed, source=source)


def add_lora(
    model: VisionLanguageModel, rank: int = 128, alpha: float = 256.0, dropout: float = 0.05
) -> None:
    """Give the language model low-rank adapters on all linear layers but the output, and train
    these (float32) beside the projector in place of its weights.

    LLaVA-1.5's values are the defaults. Raises `UserError` where peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "low-rank adapters need peft: pip install 'pad-pipeline[train]', or train without "
            "--lora-rank"
        ) from error
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType] - any number will do
        lora_dropout=dropout,
        bias="none",
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model.llm = get_peft_model(model.llm, config)
    model.freeze("finetune")


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
        and not (model_class is CLIPVisionModel and name.startswith(_NOT_OF_THE_TOWER))
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


def _projector_file(path: Path) -> tuple[Path, dict[str, Any]]:
    """The weights of a directory or file, and the settings beside them."""
    if path.is_dir():
        found = [path / name for name in PROJECTOR_FILES if (path / name).is_file()]
        if not found:
            raise UserError(
                f"{path} holds no projector: expected one of {', '.join(PROJECTOR_FILES)}"
            )
        file = found[0]
    elif path.is_file():
        file = path
    else:
        raise UserError(
            f"the projector {path} is not there; give a directory or file of one, or a kind: "
            + ", ".join(KINDS)
        )
    settings = file.parent / SETTINGS_FILE
    if not settings.is_file():
        return file, {}
    try:
        return file, dict(json.loads(settings.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{settings} cannot be read: {error}") from error


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{file} cannot be read as a projector's weights: {reason}; expected a dictionary of "
            "tensors in safetensors or torch's format"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise UserError(f"{file} holds no dictionary of tensors, so no projector's weights")
    return state
