"""Loading Grounding DINO: hub ids, transformers directories and original checkpoints, strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoForObjectDetection,
)
from transformers.initialization import no_init_weights
from transformers.utils import cached_file

from pad_pipeline.errors import Setting, UserError, first_line
from pad_pipeline.models.base import Runtime, load_strictly, prepare
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.grounding_dino.deformable_attention import try_deformable_kernel
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.phrases import SEPARATOR_IDS
from pad_pipeline.models.grounding_dino.preprocessing import Preprocessing
from pad_pipeline.models.grounding_dino.prompts import check_separators
from pad_pipeline.models.grounding_dino.state_dict import (
    convert_grounding_dino,
    infer_config,
    is_original,
)
from pad_pipeline.models.pretrained import load_pretrained, quiet, unreachable

DEFAULT_TOKENIZER = "bert-base-uncased"
"""What every released checkpoint was trained with; the original files do not contain it."""

CLASSES = {
    "grounding-dino": GroundingDinoForObjectDetection,
    "mm-grounding-dino": MMGroundingDinoForObjectDetection,
}
"""By `model_type` of the model's config.json."""

COMPUTED_KEYS = (
    r".*\.relative_position_index",
    r"model\.text_backbone\.embeddings\.position_ids",
    r".*\.swin\.layernorm\.(weight|bias)",
)
"""Keys (full matches) that a transformers directory may hold or lack.

The first two are computed from the sizes; the last normalises an output that is not used.
"""


def load_grounding_dino(
    reference: str | Path,
    runtime: Runtime | None = None,
    *,
    tokenizer: str | Path | None = None,
    **options: Any,
) -> GroundingDinoDetector:
    """A detector from a hub id, a transformers directory or an original checkpoint file.

    An original `.pth` (or `.safetensors` with its keys) tells its sizes by its tensors' shapes;
    its tokenizer is `tokenizer`: a hub id, a directory or a `vocab.txt`, by default
    `DEFAULT_TOKENIZER`. `options` are those of `GroundingDinoDetector`. Raises `UserError` where
    something is missing, cannot be read or fetched, or does not fit.
    """
    runtime = runtime or Runtime()
    prepare(runtime)
    if _is_path(reference) and not Path(reference).exists():
        raise UserError(
            f"there is no file or directory {reference}; give an original .pth file, a converted "
            "directory or the id of a model on the Hugging Face Hub"
        )
    if Path(reference).is_file():
        model = build_grounding_dino(read_checkpoint(reference), source=str(reference))
        words = load_tokenizer(tokenizer or DEFAULT_TOKENIZER)
        settings = Preprocessing()
    else:
        model = _load_transformers(str(reference))
        words = load_tokenizer(tokenizer or reference)
        settings = _load_preprocessing(str(reference))
    options.setdefault("preprocessing", settings)
    check_tokenizer(words, model)
    return GroundingDinoDetector(to_runtime(model, runtime), words, runtime, **options)


def build_grounding_dino(
    state: Mapping[str, Tensor], *, source: str, config: GroundingDinoConfig | None = None
) -> GroundingDinoForObjectDetection:
    """transformers' model with the weights of an original state dict, float32 on the CPU.

    Without `config` the sizes are read from the shapes. Raises `UserError` naming `source`.
    """
    if not is_original(state):
        raise UserError(
            f"{source} is not a Grounding DINO checkpoint: it has no 'transformer.level_embed', "
            f"its first keys are {', '.join(list(state)[:3])}; expected the layout of "
            "groundingdino_swint_ogc.pth"
        )
    config = config or infer_config(state, source=source)
    with no_init_weights():
        model = GroundingDinoForObjectDetection(config)
    load_strictly(model, convert_grounding_dino(state), source=source)
    model.tie_weights()
    return model.eval()


def to_runtime(model: Any, runtime: Runtime) -> Any:
    """The model, for inference, on the runtime's device and in its dtype; box heads in float32."""
    if torch.device(runtime.device).type == "cuda":
        try_deformable_kernel(runtime.device)
    for name, parameter in model.named_parameters():
        if "bbox_embed" not in name:
            parameter.data = parameter.data.to(runtime.torch_dtype)
    return model.to(runtime.device).eval().requires_grad_(False)


def save_grounding_dino(detector: GroundingDinoDetector, directory: str | Path) -> None:
    """Write a directory that `load_grounding_dino` and transformers both load, with no hub."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with quiet():
        detector.model.save_pretrained(directory)
    detector.tokenizer.save_pretrained(directory)
    settings = detector.preprocessing
    content = {
        "image_processor_type": "GroundingDinoImageProcessor",
        "do_resize": True,
        "size": {
            "shortest_edge": settings.shortest_side,
            "longest_edge": settings.longest_side,
        },
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": settings.mean,
        "image_std": settings.std,
        "do_pad": True,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(content, indent=2) + "\n")


def load_tokenizer(reference: str | Path) -> Any:
    """The tokenizer of a hub id, a directory or a `vocab.txt` (lower-casing, as BERT uncased)."""
    try:
        if Path(reference).is_file():
            return BertTokenizer(str(reference), do_lower_case=True)
        return AutoTokenizer.from_pretrained(str(reference))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no tokenizer at {reference}: {first_line(error)}; give a directory with "
            "tokenizer.json, a vocab.txt, or the id of one on the Hugging Face Hub (",
            Setting("tokenizer"),
            ")",
        ) from error


def check_tokenizer(tokenizer: Any, model: Any) -> None:
    """Raise `UserError` where the model would not see this tokenizer's tokens as it was taught."""
    wrong = check_separators(tokenizer, SEPARATOR_IDS)
    if wrong:
        found = ", ".join(f"{name!r} is {have}, not {want}" for name, (have, want) in wrong.items())
        raise UserError(
            f"the tokenizer does not have BERT's ids for the separators of a prompt ({found}); "
            "give that of bert-base-uncased"
        )
    rows = model.model.text_backbone.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens but the model knows {rows}; give the one "
            "that the model was trained with"
        )


def _is_path(reference: str | Path) -> bool:
    """Whether this can only mean a path, not a hub id."""
    name = str(reference)
    return name.startswith(("/", ".", "~")) or Path(name).suffix in (".pth", ".pt", ".safetensors")


def _load_transformers(reference: str) -> Any:
    """The model of a hub id or directory, float32 on the CPU; every weight must be there."""
    try:
        config = AutoConfig.from_pretrained(reference, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unreachable(reference, error) from error
    kind = CLASSES.get(config.model_type)
    if kind is None:
        raise UserError(
            f"{reference} holds a {config.model_type!r} model; expected one of {', '.join(CLASSES)}"
        )
    _check_config(config, reference)
    config.disable_custom_kernels = True
    return load_pretrained(kind, reference, computed="|".join(COMPUTED_KEYS), config=config)


def _check_config(config: Any, reference: str) -> None:
    if not getattr(config, "two_stage", True) or config.query_dim != 4:
        raise UserError(
            f"{reference} is a one-stage Grounding DINO, which no released model is; expected "
            "two_stage true and query_dim 4 in its config.json"
        )
    kind = (config.activation_function, config.position_embedding_type)
    if kind != ("relu", "sine"):
        raise UserError(
            f"{reference} has the activation {kind[0]!r} and {kind[1]!r} positions, which no "
            "released Grounding DINO has; expected 'relu' and 'sine' in its config.json"
        )


def _load_preprocessing(reference: str) -> Preprocessing:
    """From the `preprocessor_config.json` of a hub id or directory; the defaults without one."""
    path = cached_file(
        reference,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return Preprocessing()
    try:
        content = json.loads(Path(path).read_text())
        size, scale = content["size"], content.get("rescale_factor", 1 / 255)
        if abs(scale * 255 - 1) > 1e-6:
            raise ValueError(f"rescale_factor {scale}")
        return Preprocessing(
            int(size["shortest_edge"]),
            int(size["longest_edge"]),
            _three(content["image_mean"]),
            _three(content["image_std"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not say how this detector sees an image: expected size.shortest_edge, "
            "size.longest_edge, image_mean, image_std and a rescale_factor of 1/255; found "
            f"{type(error).__name__}: {error}"
        ) from error


def _three(numbers: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = numbers
    return (float(red), float(green), float(blue))
