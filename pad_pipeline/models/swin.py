"""Swin weights from Microsoft's layout, which the original models use, to transformers' names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from pad_pipeline.errors import UserError

UNUSED_BUFFERS = ("relative_position_index", "attn_mask")
"""Last parts of keys that hold what both codes compute from the sizes; they are dropped."""

_PLAIN = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "patch_embed.norm": "embeddings.norm",
    "norm": "layernorm",
}
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.(.+)")
_DOWNSAMPLE = re.compile(r"layers\.(\d+)\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)")
_STAGE_NORM = re.compile(r"norm(\d+)\.(weight|bias)")


def convert_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a Swin under the names of transformers 5.23; `state` has its prefix removed.

    Names are relative to `SwinModel` (`embeddings.…`, `encoder.…`, `layernorm.…`), but for the
    norms of a detection backbone: `norm{i}`, of the output of stage i counted from 0, becomes
    `hidden_states_norms.stage{i + 1}`, which is relative to `SwinBackbone` (there the others stand
    below `swin.`). A fused `qkv` becomes three views of it. The only keys left out are those that
    end in one of `UNUSED_BUFFERS`. Raises `UserError` at keys of no known form.
    """
    converted: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in state.items():
        if key.rpartition(".")[2] in UNUSED_BUFFERS:
            continue
        renamed = dict(_renamed(key, tensor))
        if not renamed:
            unknown.append(key)
        converted.update(renamed)
    if unknown:
        raise UserError(
            f"the Swin image encoder has keys of another layout ({', '.join(sorted(unknown)[:5])}"
            f"{', …' if len(unknown) > 5 else ''}); give a checkpoint in the original layout"
        )
    return converted


def original_key(name: str) -> str:
    """The original layout's key of what `convert_swin` names `name`, to tell the user about it.

    Query, key and value of a block have the same key, that of the fused `qkv`.
    """
    if match := re.fullmatch(r"hidden_states_norms\.stage(\d+)\.(.+)", name):
        return f"norm{int(match[1]) - 1}.{match[2]}"
    name = name.removeprefix("encoder.")
    name = re.sub(r"\.attention\.[qkv]_proj\.", ".attn.qkv.", name)
    name = name.replace(".attention.relative_position_bias.", ".attn.")
    for original, new in (_IN_BLOCK if ".blocks." in name else _PLAIN).items():
        name = re.sub(rf"(^|\.){re.escape(new)}\.(weight|bias)$", rf"\1{original}.\2", name)
    return name


def _renamed(key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The new name and tensor of one key (three for `qkv`); none where the key is not known."""
    name, _, kind = key.rpartition(".")
    if match := _STAGE_NORM.fullmatch(key):
        yield f"hidden_states_norms.stage{int(match[1]) + 1}.{match[2]}", tensor
    elif name in _PLAIN and kind in ("weight", "bias"):
        yield f"{_PLAIN[name]}.{kind}", tensor
    elif _DOWNSAMPLE.fullmatch(key):
        yield f"encoder.{key}", tensor
    elif match := _BLOCK.fullmatch(key):
        block = f"encoder.layers.{match[1]}.blocks.{match[2]}"
        part, _, kind = match[3].rpartition(".")
        if part in _IN_BLOCK and kind in ("weight", "bias"):
            yield f"{block}.{_IN_BLOCK[part]}.{kind}", tensor
        elif match[3] == "attn.relative_position_bias_table":
            table = "attention.relative_position_bias.relative_position_bias_table"
            yield f"{block}.{table}", tensor
        elif part == "attn.qkv" and kind in ("weight", "bias"):
            for projection, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{block}.attention.{projection}_proj.{kind}", third
