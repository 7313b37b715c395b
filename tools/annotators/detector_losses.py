"""Losses of the detector: Hungarian matching, focal, L1 and generalised IoU, at every layer.

transformers' own Grounding DINO loss gives all images of a batch but the first wrong classes and
the two-stage head no gradient, so these are written out here. Shapes: B images, Q boxes, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

ALPHA, GAMMA = 0.25, 2.0
CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT = 2.0, 5.0, 2.0


@dataclass(frozen=True, slots=True)
class Targets:
    """`boxes` (N, 4) as cx, cy, w, h in 0–1; `tokens` (N, T) is 1 at the tokens of its tag."""

    boxes: Tensor
    tokens: Tensor


def detector_losses(
    model: nn.Module, inputs: dict[str, Tensor], targets: list[Targets]
) -> dict[str, Tensor]:
    """Class, box and overlap losses, summed over the decoder's layers and the proposals."""
    output = model(**inputs)
    width = inputs["input_ids"].shape[1]
    text = inputs["attention_mask"].bool()
    stages = [
        (output.enc_outputs_class[..., :width], output.enc_outputs_coord_logits),
        *_decoder_stages(model, output, text),
    ]
    sums: dict[str, Tensor] = {}
    for logits, coordinates in stages:
        for name, loss in _stage_losses(logits[..., :width], coordinates, text, targets).items():
            sums[name] = sums.get(name, torch.zeros(())) + loss
    return sums


def _decoder_stages(model: Any, output: Any, text: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Logits (B, Q, T) and box logits (B, Q, 4) of each decoder layer, as the model's head does."""
    stages = []
    for layer in range(output.intermediate_hidden_states.shape[1]):
        hidden = output.intermediate_hidden_states[:, layer]
        reference = (
            output.init_reference_points
            if layer == 0
            else output.intermediate_reference_points[:, layer - 1]
        )
        logits = hidden @ output.encoder_last_hidden_state_text.transpose(1, 2)
        boxes = model.bbox_embed[layer](hidden) + torch.special.logit(reference, eps=1e-5)
        stages.append((logits, boxes))
    return stages


def _stage_losses(
    logits_BQT: Tensor, coordinates_BQ4: Tensor, text_BT: Tensor, targets: list[Targets]
) -> dict[str, Tensor]:
    # Proposals at the image's border or on padding are infinite: they are nobody's.
    usable_BQ = torch.isfinite(coordinates_BQ4).all(-1)
    boxes_BQ4 = torch.where(usable_BQ[..., None], coordinates_BQ4, 0.0).sigmoid()
    logits_BQT = torch.where(text_BT[:, None], logits_BQT, -20.0)
    wanted_BQT = torch.zeros_like(logits_BQT)
    rows, places, truths = [], [], []
    for row, target in enumerate(targets):
        if not len(target.boxes):
            continue
        chosen, which = _match(logits_BQT[row], boxes_BQ4[row], usable_BQ[row], target)
        wanted_BQT[row, chosen] = target.tokens[which]
        rows.append(torch.full_like(chosen, row))
        places.append(chosen)
        truths.append(target.boxes[which])
    count = max(sum(len(target.boxes) for target in targets), 1)
    focal = _focal(logits_BQT, wanted_BQT) * (usable_BQ[..., None] & text_BT[:, None])
    zero = coordinates_BQ4.new_zeros(())
    if not rows:
        return {"class": CLASS_WEIGHT * focal.sum() / count, "box": zero, "giou": zero}
    found, truth = boxes_BQ4[torch.cat(rows), torch.cat(places)], torch.cat(truths)
    giou = torch.diagonal(generalised_iou(found, truth))
    return {
        "class": CLASS_WEIGHT * focal.sum() / count,
        "box": L1_WEIGHT * (found - truth).abs().sum() / count,
        "giou": GIOU_WEIGHT * (1 - giou).sum() / count,
    }


@torch.no_grad()
def _match(
    logits_QT: Tensor, boxes_Q4: Tensor, usable_Q: Tensor, target: Targets
) -> tuple[Tensor, Tensor]:
    """The cheapest assignment: indices of boxes and of the targets that they stand for."""
    probability = logits_QT.sigmoid()
    hit = ALPHA * (1 - probability) ** GAMMA * -(probability + 1e-8).log()
    miss = (1 - ALPHA) * probability**GAMMA * -(1 - probability + 1e-8).log()
    share = target.tokens / target.tokens.sum(1, keepdim=True)
    cost = (
        CLASS_WEIGHT * (hit - miss) @ share.T
        + L1_WEIGHT * torch.cdist(boxes_Q4, target.boxes, p=1)
        - GIOU_WEIGHT * generalised_iou(boxes_Q4, target.boxes)
    )
    cost[~usable_Q] = 1e6
    chosen, which = linear_sum_assignment(cost.numpy())
    return torch.from_numpy(chosen), torch.from_numpy(which)


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    probability = logits.sigmoid()
    bce = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    wrong = probability + wanted - 2 * probability * wanted
    return (ALPHA * wanted + (1 - ALPHA) * (1 - wanted)) * wrong**GAMMA * bce


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019) of every pair of (N, 4) and (M, 4) boxes as cx, cy, w, h."""
    a_low, a_high = a[:, None, :2] - a[:, None, 2:] / 2, a[:, None, :2] + a[:, None, 2:] / 2
    b_low, b_high = b[None, :, :2] - b[None, :, 2:] / 2, b[None, :, :2] + b[None, :, 2:] / 2
    inner = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    outer = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(-1)
    union = a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - inner
    return inner / union.clamp(min=1e-9) - (outer - union) / outer.clamp(min=1e-9)
