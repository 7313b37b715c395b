"""Training of the embedded detector: Grounding DINO's architecture, small, on hard prompts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SwinConfig,
)

from pad_pipeline.models.ram.config import RamConfig
from tools.annotators.data import ScenePack, draw_batch
from tools.annotators.detector_check import detector_ap50
from tools.annotators.detector_data import LONG_SIDE, SHORT_SIDE, draw_prompt, make_batch
from tools.annotators.detector_files import VOCABULARY, save_detector
from tools.annotators.detector_losses import detector_losses
from tools.annotators.train_tagger import CONFIG as TAGGER
from tools.annotators.training_loop import Schedule, fit

logger = logging.getLogger(__name__)

BATCH = 8
SCHEDULE = Schedule(steps=2000, learning_rate=5e-4)


def detector_config(tagger: RamConfig = TAGGER) -> GroundingDinoConfig:
    """Sizes of the embedded Grounding DINO; its Swin is the tagger's."""
    width = 96
    stages = len(tagger.depths)
    swin_config: Any = SwinConfig  # its signature does not list out_indices
    backbone = swin_config(
        image_size=tagger.image_size,
        patch_size=tagger.patch_size,
        embed_dim=tagger.embed_dim,
        depths=list(tagger.depths),
        num_heads=list(tagger.num_heads),
        window_size=tagger.window_size,
        mlp_ratio=tagger.mlp_ratio,
        drop_path_rate=0.0,
        # Things are large: stride 16 finds them, and stride 8 would double the time of a step.
        out_indices=[stages],
    )
    text = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=256,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=width,
        num_queries=30,
        encoder_layers=3,
        decoder_layers=3,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_feature_levels=2,
        dropout=0.0,
        fusion_droppath=0.0,
        disable_custom_kernels=True,
    )


def build_detector(backbone: dict[str, Tensor] | None = None) -> GroundingDinoForObjectDetection:
    """An untrained detector, its Swin from a tagger's `visual_encoder` where that is given."""
    model = GroundingDinoForObjectDetection(detector_config())
    width = model.config.d_model
    core: Any = model.model
    for module in [*core.text_backbone.modules(), core.text_projection]:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    for layer in core.encoder.layers:
        for parameter in (layer.fusion_layer.vision_param, layer.fusion_layer.text_param):
            nn.init.constant_(parameter, 0.1)
    # Logits are products of normalised vectors: start them near -4, as focal loss wants it.
    last_text_norm = core.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    nn.init.constant_(last_text_norm.weight, 0.1)
    nn.init.constant_(last_text_norm.bias, (4 / width) ** 0.5)
    for norm in (core.enc_output_norm, core.decoder.layer_norm):
        nn.init.constant_(norm.bias, -((4 / width) ** 0.5))
    if backbone is not None:
        _load_backbone(core.backbone.conv_encoder.model, backbone)
    return model


def read_backbone(tagger: Path | None) -> dict[str, Tensor] | None:
    """The image encoder of a tagger's directory; None for none."""
    if tagger is None:
        return None
    prefix = "visual_encoder."
    state = load_file(tagger / "model.safetensors")
    return {
        name.removeprefix(prefix): value.float()
        for name, value in state.items()
        if name.startswith(prefix)
    }


def _load_backbone(swin: nn.Module, encoder: dict[str, Tensor]) -> None:
    """Copy a tagger's image encoder; its last norm becomes that of the only stage handed out."""
    wanted = set(swin.state_dict())
    state = {"swin." + name: value for name, value in encoder.items()}
    (stage,) = {name.rsplit(".", 1)[0] for name in wanted if name.startswith("hidden_states_norms")}
    for part in ("weight", "bias"):
        state[f"{stage}.{part}"] = encoder[f"layernorm.{part}"]
    swin.load_state_dict({name: value for name, value in state.items() if name in wanted})


def train_detector(
    pack: ScenePack,
    held_out: ScenePack,
    output: Path,
    *,
    backbone: dict[str, Tensor] | None = None,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> GroundingDinoForObjectDetection:
    """Train the detector and leave a model directory in `output`/model, averaged weights, fp16."""
    torch.manual_seed(seed)
    model = build_detector(backbone)

    def losses(step: int) -> dict[str, Tensor]:
        samples, rng = draw_batch(pack, batch, seed, step, same_size=True)
        inputs, targets = make_batch(samples, [draw_prompt(sample, rng) for sample in samples])
        return detector_losses(model, inputs, targets)

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, GroundingDinoForObjectDetection)
        save_detector(model, output / "model", SHORT_SIDE, LONG_SIDE)
        few, many = (detector_ap50(model, held_out, 100, num_false=n) for n in (1, 6))
        logger.info("step %d: held-out AP50 %.4f, with 6 false tags %.4f", step, few, many)

    fit(
        model,
        losses,
        schedule,
        output,
        slower={"model.backbone": 0.5} if backbone is not None else None,
        on_checkpoint=keep,
        max_minutes=max_minutes,
    )
    return model
