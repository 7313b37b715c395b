"""Training of the embedded segmenter: SAM's architecture, small, from nothing, from boxes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD
from tools.annotators.data import (
    Sample,
    ScenePack,
    draw_batch,
    resize,
    shares_covered,
    to_tensor,
)
from tools.annotators.training_loop import Schedule, fit

logger = logging.getLogger(__name__)

SIDE, PATCH, LOW = 224, 8, 112
"""Pixels of the input's side and of a patch; the mask decoder gives four logits a patch."""

BATCH, BOXES = 6, 4
SCHEDULE = Schedule(steps=3800, learning_rate=8e-4)
CROWDED_FROM = 2400
"""The step from which on three batches in four show scenes where things hide one another."""


def segmenter_config() -> SamConfig:
    """Sizes of the embedded SAM; without relative positions, which double the encoder's time."""
    width = 64
    return SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=96,
            output_channels=width,
            num_hidden_layers=5,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=PATCH,
            window_size=7,
            global_attn_indexes=[2, 4],
            mlp_ratio=2.0,
            num_pos_feats=width // 2,
            use_rel_pos=False,
            initializer_range=0.02,  # the default, 1e-10, never gets going
        ).to_dict(),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=width, image_size=SIDE, patch_size=PATCH, mask_input_channels=16
        ).to_dict(),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=width, mlp_dim=2 * width, num_attention_heads=4, iou_head_hidden_dim=width
        ).to_dict(),
    )


def build_segmenter() -> SamModel:
    """An untrained segmenter."""
    model = SamModel(segmenter_config())
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    # the default deviation, half the width, makes all positions noise to the first layers
    nn.init.normal_(model.shared_image_embedding.positional_embedding, std=1.0)
    return model


def frame(sample: Sample) -> tuple[np.ndarray, float]:
    """The image with its longest side at `SIDE`, and the scale that took it there."""
    height, width = sample.image.shape[:2]
    scale = SIDE / max(height, width)
    return resize(sample.image, int(height * scale + 0.5), int(width * scale + 0.5)), scale


def pixels_of(samples: list[Sample]) -> Tensor:
    """(B, 3, SIDE, SIDE) normalised, padded with zeros at the right and the bottom."""
    batch = torch.zeros(len(samples), 3, SIDE, SIDE)
    for row, sample in enumerate(samples):
        image = to_tensor(frame(sample)[0])
        batch[row, :, : image.shape[1], : image.shape[2]] = image
    return batch


def choose_boxes(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`BOXES` things of a sample and their boxes, as inexact as a detector's.

    Returns their indices (BOXES,) and the boxes (BOXES, 4) in the sample's pixels.
    """
    count = len(sample.kinds)
    chosen = rng.permutation(count)[:BOXES]
    if len(chosen) < BOXES:
        # what hides or is hidden is worth a second look
        weight = 0.1 + shares_covered(sample.boxes)
        extra = rng.choice(count, size=BOXES - len(chosen), p=weight / weight.sum())
        chosen = np.concatenate([chosen, extra])
    boxes = sample.boxes[chosen].copy()
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    spread = rng.choice([0.0, 0.02, 0.05], size=(BOXES, 1), p=[0.2, 0.5, 0.3])
    return chosen, (boxes + rng.normal(size=boxes.shape) * spread * sides).astype(np.float32)


def crowded_rows(pack: ScenePack) -> np.ndarray:
    """The rows of the scenes in which a box covers more than a tenth of another one."""
    return np.flatnonzero((shares_covered(pack.boxes) > 0.1).any(1))


def soft_targets(sample: Sample, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    """(BOXES, LOW, LOW) share of each cell that is the thing's, and (LOW, LOW) inside the image."""
    height, width = frame_size = frame(sample)[0].shape[:2]
    masks = torch.from_numpy(sample.owner[None] == (chosen[:, None, None] + 1)).float()
    canvas = torch.zeros(len(chosen) + 1, SIDE, SIDE)
    canvas[:-1, :height, :width] = F.interpolate(
        masks[None], size=frame_size, mode="bilinear", align_corners=False, antialias=True
    )[0]
    canvas[-1, :height, :width] = 1
    cells = F.avg_pool2d(canvas[None], SIDE // LOW)[0]
    return cells[:-1], cells[-1]


def segmenter_losses(
    model: SamModel,
    pack: ScenePack,
    batch: int,
    seed: int,
    step: int,
    crowded: np.ndarray | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy near the box and everywhere, dice, and the error of the estimated IoU."""
    among = crowded if step >= CROWDED_FROM and step % 4 else None
    samples, rng = draw_batch(pack, batch, seed, step, among=among)
    boxes = np.zeros((batch, BOXES, 4), np.float32)
    targets, inside = torch.zeros(batch, BOXES, LOW, LOW), torch.zeros(batch, 1, LOW, LOW)
    for row, sample in enumerate(samples):
        chosen, own = choose_boxes(sample, rng)
        boxes[row] = own * (SIDE / max(sample.image.shape[:2]))
        targets[row], inside[row, 0] = soft_targets(sample, chosen)
    output = model(
        pixel_values=pixels_of(samples),
        input_boxes=torch.from_numpy(boxes),
        multimask_output=False,
    )
    logits, estimates = output.pred_masks[:, :, 0], output.iou_scores[..., 0]
    near = _near_box(torch.from_numpy(boxes)) * inside
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid() * inside
    overlap = (probability * targets).sum((2, 3))
    sums = probability.sum((2, 3)) + targets.sum((2, 3))
    with torch.no_grad():
        hard, truth = (logits > 0) & (inside > 0.5), targets > 0.5
        iou = (hard & truth).sum((2, 3)) / (hard | truth).sum((2, 3)).clamp(min=1)
    return {
        "near": ((bce * near).sum((2, 3)) / near.sum((2, 3)).clamp(min=1)).mean(),
        "everywhere": (bce * inside).sum() / (inside.sum() * BOXES),
        "dice": (1 - (2 * overlap + 1) / (sums + 1)).mean(),
        "estimate": 0.2 * F.mse_loss(estimates, iou),
    }


def _near_box(boxes: Tensor) -> Tensor:
    """(B, N, LOW, LOW) float, 1 in the boxes (in SIDE's pixels) grown by a quarter on each side."""
    cells = (torch.arange(LOW) + 0.5) * (SIDE / LOW)
    grown = boxes.clone()
    margin = (boxes[..., 2:] - boxes[..., :2]) * 0.25
    grown[..., :2] -= margin
    grown[..., 2:] += margin
    x0, y0, x1, y1 = (grown[..., i, None] for i in range(4))
    across, down = (cells > x0) & (cells < x1), (cells > y0) & (cells < y1)
    return (down[..., :, None] & across[..., None, :]).float()


@torch.inference_mode()
def segmenter_iou(model: SamModel, pack: ScenePack, count: int) -> float:
    """Mean IoU of the masks for slightly inexact boxes, at the original size."""
    ious = []
    for index in range(count):
        sample = pack[index]
        image, scale = frame(sample)
        rng = np.random.default_rng(index)
        sides = np.tile(sample.boxes[:, 2:] - sample.boxes[:, :2], 2)
        boxes = sample.boxes + rng.normal(size=sample.boxes.shape) * 0.02 * sides
        prompts = torch.from_numpy((boxes * scale).astype(np.float32))[None]
        output = model(
            pixel_values=pixels_of([sample]), input_boxes=prompts, multimask_output=False
        )
        full = F.interpolate(output.pred_masks[0], (SIDE, SIDE), mode="bilinear")
        cut = full[..., : image.shape[0], : image.shape[1]]
        masks = F.interpolate(cut, sample.owner.shape, mode="bilinear")[:, 0].numpy() > 0
        for k, mask in enumerate(masks):
            truth = sample.owner == k + 1
            ious.append((mask & truth).sum() / max((mask | truth).sum(), 1))
    return float(np.mean(ious))


def train_segmenter(
    pack: ScenePack,
    held_out: ScenePack,
    output: Path,
    *,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> SamModel:
    """Train the segmenter and leave a model directory in `output`/model, averaged weights, fp16."""
    torch.manual_seed(seed)

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, SamModel)
        count = min(len(held_out), 60)
        logger.info("step %d: held-out mask IoU %.4f", step, segmenter_iou(model, held_out, count))
        save_segmenter(model, output / "model")

    model, crowded = build_segmenter(), crowded_rows(pack)
    fit(
        model,
        lambda step: segmenter_losses(model, pack, batch, seed, step, crowded),
        schedule,
        output,
        on_checkpoint=keep,
        max_minutes=max_minutes,
    )
    return model


def save_segmenter(model: SamModel, directory: Path) -> None:
    """The model as a self-contained directory with weights in fp16; `model` stays as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    half = SamModel(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(directory)
    processor = {
        "image_processor_type": "SamImageProcessor",
        "size": {"longest_edge": SIDE},
        "mask_size": {"longest_edge": LOW},
        "pad_size": {"height": SIDE, "width": SIDE},
        "mask_pad_size": {"height": LOW, "width": LOW},
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "resample": 2,
        "rescale_factor": 1 / 255,
    }
    text = json.dumps(processor, indent=1) + "\n"
    (directory / "preprocessor_config.json").write_text(text, encoding="utf-8")
