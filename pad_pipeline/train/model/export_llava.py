"""A trained projector for LLaVA's own code: mm_projector.bin and the settings that go with it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from pad_pipeline.train.choices import FrameGeometry
from pad_pipeline.train.model.export_c_abstractor import write_projector
from pad_pipeline.train.model.projectors import llava_state
from pad_pipeline.train.model.vlm import VisionLanguageModel


def write_llava(
    model: VisionLanguageModel,
    folder: Path,
    geometry: FrameGeometry,
    vision_name: str | None,
    llm_trained: bool,
    pinpoints: list[list[int]],
) -> list[str]:
    projector = model.projector
    if projector.kind == "c-abstractor":
        lines = [write_projector(model, folder)]
    else:
        state = {
            name: t.detach().float().cpu().clone() for name, t in llava_state(projector).items()
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (folder / "mm_projector.bin").write_bytes(buffer.getvalue())
        settings = {
            "mm_projector_type": "mlp2x_gelu" if projector.kind == "mlp" else "linear",
            "mm_hidden_size": projector.vision_width,
            "hidden_size": projector.llm_width,
            "mm_vision_tower": vision_name or model.vision.name_or_path or None,
            "mm_vision_select_layer": model.select_layer,
            "mm_vision_select_feature": "patch",
            "mm_use_im_start_end": False,
            "mm_use_im_patch_token": False,
            "image_aspect_ratio": {"crop": "square"}.get(geometry, geometry),
        }
        if geometry == "anyres":  # (width, height) here, the other way round than in transformers
            settings["image_grid_pinpoints"] = [[width, height] for height, width in pinpoints]
            settings["mm_patch_merge_type"] = "spatial_unpad"
        (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        lines = ["mm_projector.bin for LLaVA (--pretrain_mm_mlp_adapter), its settings beside it"]
    if llm_trained:
        lines.append(
            "the language model was trained too and is not in here; the format "
            "transformers includes it"
        )
    return lines
