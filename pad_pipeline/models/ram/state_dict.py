"""RAM and RAM++ weights in the original layouts (`ram_swin_large_14m.pth` and its like)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.base import list_keys, load_strictly
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.ram.config import DEFAULT_THRESHOLD, DESCRIPTIONS_PER_CLASS, RamConfig
from pad_pipeline.models.ram.network import RecognizeAnything, restore_swin_buffers
from pad_pipeline.models.swin import convert_swin, original_key

UNUSED_KEYS = (
    # encodes recognised tags for the captioner; its first layers share the tagging head's weights
    r"tag_encoder\..+",
    # writes the caption
    r"text_decoder\..+",
    # follow from the window and the image size, the original's loader drops them as well
    r"visual_encoder\..+\.(relative_position_index|attn_mask)",
)
"""Keys of the original layouts that tagging does not use, as regular expressions."""

_SWIN = "visual_encoder."
_IN_HEAD_LAYER = {
    "crossattention.self.query": "query",
    "crossattention.self.key": "key",
    "crossattention.self.value": "value",
    "crossattention.output.dense": "attention_output",
    "crossattention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}
_HEAD_LAYER = re.compile(r"tagging_head\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")


def convert_ram_checkpoint(
    state: Mapping[str, Tensor], config: RamConfig, *, source: str
) -> dict[str, Tensor]:
    """The original layout's `state` under the names of `RecognizeAnything(config)`.

    Drops `UNUSED_KEYS` alone. Raises `UserError` that names `source` and, as the file has them, the
    first keys that are missing, of another shape or unknown.
    """
    used = {
        key: tensor
        for key, tensor in state.items()
        if not any(re.fullmatch(pattern, key) for pattern in UNUSED_KEYS)
    }
    wanted = original_shapes(config)
    found = {key: tuple(tensor.shape) for key, tensor in used.items()}
    differences = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} is {found[key]} instead of {shape}"
            for key, shape in wanted.items()
            if found.get(key, shape) != shape
        ],
    }
    if differing := list_keys(differences):
        raise UserError(
            f"{source} does not fit the model ({config.model_type}, {len(config.tags)} tags): "
            f"{differing}"
        )
    swin = {k.removeprefix(_SWIN): tensor for k, tensor in used.items() if k.startswith(_SWIN)}
    converted = {_SWIN + name: tensor for name, tensor in convert_swin(swin).items()}
    for key, tensor in used.items():
        if match := _HEAD_LAYER.fullmatch(key):
            key = f"tagging_head.{match[1]}.{_IN_HEAD_LAYER[match[2]]}.{match[3]}"
        if not key.startswith(_SWIN):
            converted[key] = tensor
    return converted


def original_shapes(config: RamConfig) -> dict[str, tuple[int, ...]]:
    """The keys and shapes that a checkpoint of the original layout must have for `config`."""
    with torch.device("meta"):
        model = RecognizeAnything(config)
    parts = {part: original for original, part in _IN_HEAD_LAYER.items()}
    shapes = {}
    for name, tensor in model.state_dict().items():
        key, shape = name, tuple(tensor.shape)
        if name.startswith(_SWIN):
            key = _SWIN + original_key(name.removeprefix(_SWIN))
            if ".attn.qkv." in key:
                shape = (3 * shape[0], *shape[1:])
        elif name.startswith("tagging_head."):
            _, layer, part, kind = name.split(".")
            key = f"tagging_head.encoder.layer.{layer}.{parts[part]}.{kind}"
        shapes[key] = shape
    return shapes


def infer_ram_config(
    state: Mapping[str, Tensor],
    tags: Sequence[str],
    thresholds: Sequence[float] | None = None,
    *,
    image_size: int | None = None,
    num_attention_heads: int = 4,
    descriptions_per_class: int = DESCRIPTIONS_PER_CLASS,
) -> RamConfig:
    """The configuration that the tensors of an original checkpoint have been made with.

    The shapes tell every size but `num_attention_heads` of the tagging head, and the image size
    where the shifted windows' masks are not in the file: then the last stage is taken to be one
    window, as in all released models. `descriptions_per_class` counts for RAM++ alone. Raises
    `UserError` where it is no RAM or where tags, thresholds and labels differ in number.
    """
    depths = tuple(
        _count(state, rf"visual_encoder\.layers\.{stage}\.blocks\.(\d+)\..+")
        for stage in range(_count(state, r"visual_encoder\.layers\.(\d+)\..+"))
    )
    tables = [
        _shape(state, f"{_SWIN}layers.{stage}.blocks.0.attn.relative_position_bias_table", 2)
        for stage in range(len(depths))
    ]
    windows = [(isqrt(rows) + 1) // 2 for rows, _ in tables]
    embed_dim, _, patch_size, _ = _shape(state, f"{_SWIN}patch_embed.proj.weight", 4)
    layer = "tagging_head.encoder.layer.0."
    label_rows, label_dim = _shape(state, "label_embed", 2)
    is_plus = "reweight_scale" in state
    per_tag = descriptions_per_class if is_plus else 1
    if label_rows != len(tags) * per_tag:
        raise UserError(
            f"the checkpoint has {label_rows} label vectors"
            + (f" ({per_tag} per tag)" if is_plus else "")
            + f", so it needs a list of {label_rows / per_tag:g} tags; the one given has "
            f"{len(tags)}. Name the list that the checkpoint was trained with by ",
            Setting("tags"),
        )
    return RamConfig(
        tags=tuple(tags),
        thresholds=(DEFAULT_THRESHOLD,) * len(tags) if thresholds is None else tuple(thresholds),
        image_size=image_size or _image_size(state, windows, patch_size),
        patch_size=patch_size,
        window_size=max(windows),
        embed_dim=embed_dim,
        depths=depths,
        num_heads=tuple(heads for _, heads in tables),
        mlp_ratio=_shape(state, f"{_SWIN}layers.0.blocks.0.mlp.fc1.weight", 2)[0] / embed_dim,
        image_proj_dim=_shape(state, "image_proj.weight", 2)[0],
        label_dim=label_dim,
        hidden_size=_shape(state, f"{layer}crossattention.self.query.weight", 2)[0],
        intermediate_size=_shape(state, f"{layer}intermediate.dense.weight", 2)[0],
        num_hidden_layers=_count(state, r"tagging_head\.encoder\.layer\.(\d+)\..+"),
        num_attention_heads=num_attention_heads,
        descriptions_per_class=per_tag if is_plus else 0,
    )


def build_ram(
    config: RamConfig,
    state: Mapping[str, Tensor],
    *,
    source: str,
    dtype: torch.dtype = torch.float32,
) -> RecognizeAnything:
    """A `RecognizeAnything` in evaluation mode with the weights `state`, named as it names them.

    Raises `UserError` that names `source` and the first keys that differ.
    """
    with torch.device("meta"):
        model = RecognizeAnything(config)
    load_strictly(model, {name: tensor.to(dtype) for name, tensor in state.items()}, source=source)
    restore_swin_buffers(model)
    return model.eval()


def load_ram_checkpoint(
    path: str | Path,
    tags: Sequence[str],
    thresholds: Sequence[float] | None = None,
    *,
    model_type: str | None = None,
    image_size: int | None = None,
    num_attention_heads: int = 4,
) -> RecognizeAnything:
    """The model of an original checkpoint file, in float32 on the CPU.

    `model_type` is "ram" or "ram-plus" where it matters which of the two it is. Raises `UserError`
    where the file is not such a checkpoint or does not fit the tags.
    """
    state = read_checkpoint(path)
    try:
        config = infer_ram_config(
            state, tags, thresholds, image_size=image_size, num_attention_heads=num_attention_heads
        )
    except UserError as error:
        raise UserError(f"{path}: ", *error.args) from error
    if model_type not in (None, config.model_type):
        raise UserError(f"{path} is a checkpoint of {config.model_type}, not of {model_type}")
    state = convert_ram_checkpoint(state, config, source=str(path))
    return build_ram(config, state, source=str(path))


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbered parts there are whose keys match; the number is the pattern's group."""
    matches = (re.fullmatch(pattern, key) for key in state)
    return len({match[1] for match in matches if match})


def _shape(state: Mapping[str, Tensor], key: str, num_axes: int) -> tuple[int, ...]:
    if key not in state:
        raise UserError(
            f"a RAM checkpoint has the key {key}, this one does not (it begins with "
            f"{', '.join(list(state)[:3])}); give ram_swin_large_14m.pth or one in its layout"
        )
    shape = tuple(state[key].shape)
    if len(shape) != num_axes:
        raise UserError(f"{key} has the shape {shape}; {num_axes} axes are needed")
    return shape


def _image_size(state: Mapping[str, Tensor], windows: Sequence[int], patch_size: int) -> int:
    """The image side in pixels: from the mask of a shifted window, else from the last stage."""
    for stage, window in enumerate(windows):
        mask = state.get(f"{_SWIN}layers.{stage}.blocks.1.attn_mask")
        if mask is not None:
            return isqrt(mask.shape[0]) * window * patch_size * 2**stage
    return windows[-1] * patch_size * 2 ** (len(windows) - 1)
