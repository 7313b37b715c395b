"""Checkpoints of taming-transformers: their VQGAN's sizes by its tensors, and nothing left over."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.vq.vqgan import VqganConfig

LOSS = "loss."
"""What training alone uses, the discriminator and the perceptual distance, begins with this."""

_CODEBOOK = "quantize.embedding.weight"
_NEEDED = ("encoder.conv_in.weight", "encoder.conv_out.weight", "quant_conv.weight", _CODEBOOK)
_BLOCK = re.compile(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight")
_ATTENTION = re.compile(r"encoder\.down\.(\d+)\.attn\.0\.q\.weight")


def without_losses(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without what training alone uses."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(LOSS)}


def infer_config(state: Mapping[str, Tensor], source: str) -> VqganConfig:
    """The sizes of a checkpoint's VQGAN, with the 32 groups per norm of the original.

    Raises `UserError` where the tensors are none of a VQGAN with a codebook of its own.
    """
    missing = [name for name in _NEEDED if name not in state]
    if missing:
        kind = ""
        if "quantize.embed.weight" in state:
            kind = " (it is a GumbelVQ, whose indices come from a softmax)"
        raise UserError(
            f"{source} is no VQGAN of taming-transformers{kind}: it lacks {', '.join(missing)}; "
            "give a VQModel's checkpoint"
        )
    blocks = [found for name in state if (found := _BLOCK.fullmatch(name))]
    widths = {int(found[1]): state[found[0]].shape[0] for found in blocks}
    if sorted(widths) != list(range(len(widths))) or not widths:
        raise UserError(f"{source} has no levels encoder.down.0, 1, …; give a whole checkpoint")
    attention = sorted(int(found[1]) for name in state if (found := _ATTENTION.fullmatch(name)))
    return VqganConfig(
        stem_channels=state["encoder.conv_in.weight"].shape[0],
        level_channels=tuple(widths[level] for level in range(len(widths))),
        blocks_per_level=1 + max(int(found[2]) for found in blocks),
        attention_levels=tuple(attention),
        latent_channels=state["encoder.conv_out.weight"].shape[0],
        code_channels=state["quant_conv.weight"].shape[0],
        num_codes=state[_CODEBOOK].shape[0],
    )
