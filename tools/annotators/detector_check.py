"""A quick measure of the detector during training: AP50 with the true tags and some false ones."""

from __future__ import annotations

import numpy as np
import torch
from transformers import GroundingDinoForObjectDetection

from pad_pipeline.boxes import cxcywh_to_xyxy, nms
from pad_pipeline.scenes.generator import KINDS
from pad_pipeline.scenes.quality import Truth, average_precision
from tools.annotators.data import ScenePack
from tools.annotators.detector_data import make_batch, prompt_tokens


@torch.inference_mode()
def detector_ap50(
    model: GroundingDinoForObjectDetection, pack: ScenePack, count: int, *, num_false: int
) -> float:
    """Class-aware AP50 after class-agnostic suppression, on the first scenes of `pack`."""
    truths, found = [], []
    for index in range(min(count, len(pack))):
        sample = pack[index]
        rng = np.random.default_rng(index)
        present = np.unique(sample.kinds)
        absent = rng.permutation(np.setdiff1d(np.arange(len(KINDS)), present))[:num_false]
        prompt = [int(kind) for kind in rng.permutation([*present, *absent])]
        inputs, _ = make_batch([sample], [prompt])
        output = model(**inputs)
        _, spans = prompt_tokens(prompt)
        probability = output.logits[0].sigmoid().numpy()
        scores = np.stack([probability[:, slice(*spans[kind])].mean(1) for kind in prompt], 1)
        height, width = sample.image.shape[:2]
        boxes = cxcywh_to_xyxy(output.pred_boxes[0].numpy()) * [width, height, width, height]
        best, kinds = scores.max(1), np.array(prompt)[scores.argmax(1)]
        strong = np.flatnonzero(best > 0.05)
        kept = strong[nms(boxes[strong], best[strong], 0.5)]
        found.append((boxes[kept], best[kept], kinds[kept]))
        truths.append(Truth(height, width, sample.boxes, sample.kinds))
    return average_precision(truths, found)["ap50"]
