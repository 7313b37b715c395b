"""Whether vision tower, projector and language model go together."""

from __future__ import annotations

from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.train.model.projectors import Projector

_OUTPUT_CHANGES = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1}
"""Settings of language models that change the logits after the output layer, and the value that
does not; the others are refused."""


def patch_grid(vision_config: Any) -> int:
    """Patches along a side of the tower's square image."""
    return int(vision_config.image_size) // int(vision_config.patch_size)


def check_compatible(vision_config: Any, projector: Projector, llm_config: Any) -> None:
    """Raise `UserError` where tower, projector and language model do not go together."""
    grid, width = patch_grid(vision_config), int(vision_config.hidden_size)
    if projector.grid != grid:
        raise UserError(
            f"the projector is for {projector.grid} x {projector.grid} patches, but the vision "
            f"tower gives {grid} x {grid} ({vision_config.image_size} pixels, patches of "
            f"{vision_config.patch_size}); take the tower that it was trained with"
        )
    if projector.vision_width != width:
        raise UserError(
            f"the projector takes features of width {projector.vision_width}, but the vision "
            f"tower's have {width}; take the tower that it was trained with"
        )
    if projector.llm_width != int(llm_config.hidden_size):
        raise UserError(
            f"the projector gives tokens of width {projector.llm_width}, but the language model's "
            f"embedding has {llm_config.hidden_size}; take the language model that it was trained "
            "with"
        )
    for name, neutral in _OUTPUT_CHANGES.items():
        value = getattr(llm_config, name, neutral)
        if value not in (neutral, None):
            raise UserError(
                f"the language model {llm_config.model_type} changes its logits ({name} = {value}),"
                " which the caption loss here does not do; take a Llama, Vicuna, Mistral or Qwen"
            )
